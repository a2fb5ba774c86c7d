"""How fast requests go out: a limit a minute shared by all threads, and pauses that the other side asks for."""

import threading
import time
from email.utils import parsedate_to_datetime


class Pace:
    """Gives each request its moment. requests_per_minute: None for as fast as the threads are.

    `stop` wakes everyone who waits.
    """

    def __init__(self, requests_per_minute: float | None = None):
        self._interval_s = 60.0 / requests_per_minute if requests_per_minute else 0.0
        self._next_s = self._paused_until_s = 0.0  # on the monotonic clock
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def wait(self) -> None:
        """Return when the next request may go out."""
        self._sleep_out_pauses()
        with self._lock:
            at_s = max(time.monotonic(), self._next_s)
            self._next_s = at_s + self._interval_s
        self.sleep(at_s - time.monotonic())
        self._sleep_out_pauses()

    def pause(self, seconds: float) -> None:
        """Nobody goes out for so long."""
        with self._lock:
            self._paused_until_s = max(self._paused_until_s, time.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Wait by oneself."""
        if seconds > 0:
            self._stopped.wait(seconds)

    def stop(self) -> None:
        """Nobody waits any longer."""
        self._stopped.set()

    def _sleep_out_pauses(self) -> None:
        while not self._stopped.is_set() and (left_s := self._paused_until_s - time.monotonic()) > 0:
            self.sleep(left_s)


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
