"""The second at which a viewer's player stands, as a clock that the commentary waits for."""

import threading
import time

FASTEST, SLOWEST = 2.0, 0.25  # times the video's own speed
SILENT_S = 3.0  # a page that reports its time and then does not for so long has stopped


class Player:
    """Follows a player that is moved from outside; times are the video's seconds.

    reports: whether the page says where its player is (--js_monitor); it is then never believed to be further than
    SILENT_S beyond its latest report. Methods may be called from any thread.
    """

    def __init__(self, start_s: float, reports: bool):
        self._changed = threading.Condition()
        self._time_s, self._at_s, self._reports = start_s, time.monotonic(), reports
        self._closed = self._ended = False
        self.rate, self.playing = 1.0, False
        self.moved_s = time.monotonic()  # when it last played

    def play(self, time_s: float, rate: float | None = None) -> None:
        """Play from `time_s` on."""
        self._set(time_s, True, rate)

    def pause(self, time_s: float | None = None) -> None:
        """Stand still."""
        self._set(self.now() if time_s is None else time_s, False)

    def report(self, time_s: float) -> None:
        """Report the player's position."""
        self._set(time_s, self.playing)

    def set_rate(self, rate: float) -> None:
        """Play `rate` times as fast as the video's own time."""
        self._set(self.now(), self.playing, rate)

    def end(self) -> None:
        """Report the end of the video: whatever is left has been shown."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Wake all who wait; nobody waits any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def now(self) -> float:
        """The second at which the player is believed to be."""
        with self._changed:
            return self._now()

    def wait_until(self, second: float) -> None:
        """Block until the player has played up to `second`, or is closed."""
        with self._changed:
            while not self._closed and not self._ended:
                missing_s = second - self._now()
                if missing_s <= 0:
                    return
                self._changed.wait(missing_s / self.rate if self.playing else 1.0)

    def _set(self, time_s: float, playing: bool, rate: float | None = None) -> None:
        with self._changed:
            if playing or self.playing:
                self.moved_s = time.monotonic()
            self._time_s, self._at_s = time_s, time.monotonic()
            self.playing, self.rate = playing, rate or self.rate
            self._changed.notify_all()

    def _now(self) -> float:
        if not self.playing:
            return self._time_s
        passed_s = time.monotonic() - self._at_s
        return self._time_s + (min(passed_s, SILENT_S) if self._reports else passed_s) * self.rate
