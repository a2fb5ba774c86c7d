"""Rate limit of requests that threads share, with pauses that the other side asks for; when requests are retried."""

import random
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


class RateLimiter:
    """Limit of requests a minute; None for as fast as the threads are.

    `stop` wakes everyone who waits.
    """

    def __init__(self, requests_per_minute: float | None = None):
        self._interval_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next_s = self._paused_until_s = 0.0  # on the monotonic clock
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def wait(self) -> None:
        """Block until the next request may go out."""
        self._sleep_out_pauses()
        with self._lock:
            at_s = max(time.monotonic(), self._next_s)
            self._next_s = at_s + self._interval_s
        self.sleep(at_s - time.monotonic())
        self._sleep_out_pauses()

    def pause(self, seconds: float) -> None:
        """Block all requests for `seconds`."""
        with self._lock:
            self._paused_until_s = max(self._paused_until_s, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Block this thread alone; `stop` ends it."""
        if seconds > 0:
            self._stopped.wait(seconds)

    def stop(self) -> None:
        """End all waits, now and later."""
        self._stopped.set()

    def _sleep_out_pauses(self) -> None:
        while not self._stopped.is_set() and (left_s := self._paused_until_s - time.monotonic()) > 0:
            self.sleep(left_s)


@dataclass(frozen=True)
class RetryPolicy:
    """When a request is retried, after waits that double, and how many requests may fail in a row."""

    max_retries: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    longest_asked_s: float = 300.0  # a server that asks for more than this is not waited for
    max_failures: int = 8

    def wait_s(self, attempt: int) -> float:
        """Seconds before the retry that follows attempt 0, 1, ...: between half of the doubling wait and all of it."""
        return min(self.longest_wait_s, self.first_wait_s * 2**attempt) * random.uniform(0.5, 1.0)


def asked_wait_s(headers) -> float | None:
    """Seconds that a reply's headers ask to wait: retry-after-ms, else retry-after in seconds or as a date."""
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            seconds = float(text) * unit_s
        except ValueError:
            continue
        return max(0.0, seconds) if seconds == seconds else None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
