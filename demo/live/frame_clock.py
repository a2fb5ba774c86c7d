"""Frame clock of a session: which of a client's frames are looked at, and the time that each stands for."""

import math

from data.video.frame_plan import FPS
from demo.live.api_error import ApiError
from demo.live.limits import LONGEST_S

BACK_S = 1.0  # frames that overtake each other on the way


class FrameClock:
    """Puts a client's frames on the grid of 2 a second.

    A frame stands for the grid time nearest to its own time (at equal distance the later one). The first frame that
    comes for a grid time is taken; others for the same one, or for an earlier one, are left out. A frame's own time is
    the one that its client gives, else that of its arrival since the first frame; a client does the one or the other.
    start_s: the first time that is still free, of a stream that goes on.
    """

    def __init__(self, start_s: float = 0.0):
        self._start_s = start_s
        self._last = round(start_s * FPS) - 1  # half seconds
        self._zero_s: float | None = None  # the clock when the first unstamped frame came
        self._stamped: bool | None = None

    def place(self, time_s: float | None, now_s: float) -> float | None:
        """The grid time of a frame, or None where it is left out; nothing is taken yet. Raises ApiError."""
        stamped = time_s is not None
        if self._stamped not in (None, stamped):
            raise ApiError(
                422, "frames with and without time_s in one session", cause="their times cannot be compared",
                next_step="give time_s with every frame, or with none",
            )  # fmt: skip
        if stamped:
            self._check(time_s)
        else:
            time_s = self._start_s + (0.0 if self._zero_s is None else now_s - self._zero_s)
        index = math.floor(time_s * FPS + 0.5)
        return index / FPS if index > self._last else None

    def take(self, grid_s: float, stamped: bool, now_s: float) -> None:
        """Mark the grid time of a placed frame as taken."""
        self._last, self._stamped = round(grid_s * FPS), stamped
        if not stamped and self._zero_s is None:
            self._zero_s = now_s

    def _check(self, time_s: float) -> None:
        if not 0 <= time_s <= LONGEST_S:
            raise ApiError(422, f"time_s {time_s}", limit=f"0 to {LONGEST_S:.0f}", next_step="count from the start")
        if time_s < self._last / FPS - BACK_S:
            raise ApiError(
                422, f"time_s {time_s} after a frame at {self._last / FPS}", limit=f"{BACK_S} s back",
                cause="the client's clock was set back, or frames are sent again", next_step="times must grow",
            )  # fmt: skip
