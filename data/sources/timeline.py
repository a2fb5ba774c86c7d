"""The times of a live stream: arithmetic only. When each frame counts as shown, and which grid times it gets.

A live source's time is the number of seconds since its first frame arrived. A frame's time is anchor_s + (its own
time stamp - the anchor's), where the anchor is the first frame of a connection, at the moment at which it arrived. So
the stream's own stamps set the distance of frames, free of the network's jitter, and the wall clock sets where a
connection stands. A frame becomes the new anchor, at the moment at which it arrives but never before the frame before
it has ended, where

    - its stamp does not come after the stamp before it (wrapped, set back, repeated);
    - its stamp is more than JUMP_S ahead, both of the frame before it and of the wall clock;
    - frames have been more than SLACK_S late for PATIENCE_S, and it was the stream that kept us waiting for at least
      half of that while: it paused, or its clock is slow. A burst that catches up earlier keeps its stamps.

A frame without a stamp follows the frame before it. Pipes, which are read as files are, and streams that state no times
have rules of their own (StatedTimes, ArrivalTimes).
"""

import math
from dataclasses import dataclass
from typing import Generic, TypeVar

from data.video.frame_plan import FPS

JUMP_S = 5.0
SLACK_S = 1.0
PATIENCE_S = 2.0
BRIDGE_S = 1 / FPS  # a break this short is no hole

Picture = TypeVar("Picture")


@dataclass(frozen=True)
class Placed:
    """When a frame is shown, in seconds; joined: whether the stream ran on up to it from the frame before."""

    time_s: float
    joined: bool


class Timeline:
    """Times of frames, by the rule at the top of this file. Times rise strictly."""

    def __init__(self):
        self._anchor: tuple[float, float] | None = None  # (time_s, stamp_s)
        self._last_s = -math.inf
        self._end_s = 0.0  # of the last frame
        self._late: tuple[float, float] | None = None  # (now_s, idle_s) when frames began to be late

    def disconnect(self) -> None:
        """Note that the stream was lost: the next frame is an anchor."""
        self._anchor = self._late = None

    def place(self, stamp_s: float | None, lasts_s: float, now_s: float, idle_s: float) -> Placed:
        """Place the frame that has just arrived.

        stamp_s: its own time.  lasts_s: how long it is shown.  now_s: seconds since the first frame's arrival.
        idle_s: how long the stream has kept its reader waiting, in all.
        """
        time_s = self._expected(stamp_s)
        joined = time_s is not None and not self._jumps(time_s, now_s) and not self._stays_late(time_s, now_s, idle_s)
        if not joined:
            time_s = max(now_s, self._end_s)
            self._anchor, self._late = (time_s, time_s if stamp_s is None else stamp_s), None
        self._last_s, self._end_s = time_s, time_s + lasts_s
        return Placed(time_s, joined)

    def _expected(self, stamp_s: float | None) -> float | None:
        if self._anchor is None:
            return None
        anchor_s, anchor_stamp_s = self._anchor
        return self._end_s if stamp_s is None else anchor_s + (stamp_s - anchor_stamp_s)

    def _jumps(self, time_s: float, now_s: float) -> bool:
        return time_s <= self._last_s or time_s > max(self._end_s, now_s) + JUMP_S

    def _stays_late(self, time_s: float, now_s: float, idle_s: float) -> bool:
        if now_s - time_s <= SLACK_S:
            self._late = None
            return False
        self._late = self._late or (now_s, idle_s)
        since_s, idle_then_s = self._late
        return now_s - since_s >= PATIENCE_S and idle_s - idle_then_s >= (now_s - since_s) / 2


class StatedTimes:
    """Times of a stream that is read as a file is: its own, which data/video/file_clock.py has put in order."""

    def __init__(self):
        self._end_s = 0.0

    def disconnect(self) -> None:
        """Do nothing: a pipe is opened once."""

    def place(self, stamp_s: float | None, lasts_s: float, now_s: float, idle_s: float) -> Placed:
        """Place a frame at its stamp, whenever it arrives; one without follows the frame before it."""
        time_s = self._end_s if stamp_s is None else stamp_s
        self._end_s = time_s + lasts_s
        return Placed(time_s, joined=True)


class ArrivalTimes:
    """Times of a stream that states none (MJPEG over HTTP): a frame is shown when it arrives, until the next does."""

    def __init__(self):
        self._last_s = -math.inf

    def disconnect(self) -> None:
        """Note that the stream was lost: no picture was on screen before the next frame."""
        self._last_s = -math.inf

    def place(self, stamp_s: float | None, lasts_s: float, now_s: float, idle_s: float) -> Placed:
        """Place a frame; its stamp and duration, made up by FFmpeg, are not looked at."""
        placed = Placed(max(now_s, self._last_s), joined=now_s - self._last_s <= JUMP_S)
        self._last_s = placed.time_s
        return placed


class Grid(Generic[Picture]):
    """Grid times with the picture on screen at each, the last to start by then, given once that is certain.

    Grid times in a break of more than BRIDGE_S, in which no picture was on screen, are left out.
    """

    def __init__(self):
        self._next, self._is_new = 0, True  # half seconds
        self._shown: Picture | None = None
        self._end_s = 0.0

    def add(self, picture: Picture, placed: Placed, lasts_s: float) -> list[tuple[float, Picture]]:
        """Take the next picture; return the grid times that the one before it has got, with that picture."""
        bridged = placed.joined or placed.time_s - self._end_s <= BRIDGE_S
        given = self._give(placed.time_s if bridged else self._end_s)
        # The very first takes the grid time less than a step before it too, as in a file.
        begins = math.floor if self._is_new else math.ceil
        self._next, self._is_new = max(self._next, begins(placed.time_s * FPS)), False
        self._shown, self._end_s = picture, placed.time_s + lasts_s
        return given

    def end(self) -> list[tuple[float, Picture]]:
        """Return the grid times of the last picture; nothing follows it."""
        given = self._give(self._end_s)
        self._shown = None
        return given

    def _give(self, until_s: float) -> list[tuple[float, Picture]]:
        given = []
        while self._shown is not None and self._next / FPS < until_s:
            given.append((self._next / FPS, self._shown))
            self._next += 1
        return given
