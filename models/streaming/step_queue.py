"""Frames in, steps out: where a stream's frames become steps, and where late ones are dropped and counted.

`comment`, the engine and all that run on them take their steps from here, so all have one rule.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from data.samples.words import FIRST_STEP_FRAMES, STEP_FRAMES, frames_without_hole
from data.video.frame_plan import FPS
from utils.errors import UserError


class Arrived(NamedTuple):
    """A frame that waits for its step: its second of the stream, uint8 [3, H, W], and when it came."""

    time_s: float
    frame: Tensor
    arrived_s: float


@dataclass(frozen=True)
class StepFrames:
    """The frames of one step: uint8 [T, 3, H, W], T even, for the seconds [start_s, end_s] of the stream."""

    frames: Tensor
    start_s: float
    end_s: float
    arrived_s: float  # when the last of them came
    n_frames: int  # that came; T is one more where the last is repeated
    n_dropped: int  # before this step, since the one before it


class StepQueue:
    """Queue of one stream: the frames that wait, and the steps that they make.

    The first step takes 6 frames, later ones 2. A step ends early where frames are missing, so that none spans an
    interruption, and where the source ends. Late: the next step is dropped whole, again and again, while its last
    frame came more than `max_lag_s` ago and a whole later step waits behind it. So the newest step is never dropped,
    and of a first step that is late the oldest 2 frames go. At every moment

        n_came == n_used + n_dropped + n_waiting

    begun: the first step was made before (a saved stream). max_lag_s None: nothing is late. whole_steps: what is left
    at the end and fills no step is dropped too, as the published loop does. now: the clock of arrivals.
    """

    def __init__(
        self,
        begun: bool = False,
        max_lag_s: float | None = None,
        whole_steps: bool = False,
        now: Callable[[], float] = time.monotonic,
    ):
        self.begun, self.max_lag_s, self.whole_steps, self.now = begun, max_lag_s, whole_steps, now
        self.ended = False
        self.n_came = self.n_used = self.n_dropped = 0
        self._frames: deque[Arrived] = deque()
        self._dropped_since = 0  # the latest step

    @property
    def n_waiting(self) -> int:
        """Frames that have come and are in no step yet."""
        return len(self._frames)

    @property
    def is_late(self) -> bool:
        """Whether the next step would begin too late: it goes, once a whole later one waits."""
        n = self._n_next()
        return self.max_lag_s is not None and n > 0 and self.now() - self._frames[n - 1].arrived_s > self.max_lag_s

    def push(self, time_s: float, frame: Tensor, arrived_s: float | None = None) -> None:
        """Add the next frame, uint8 [3, H, W]; it came at `arrived_s` (default: now)."""
        self._frames.append(Arrived(time_s, frame, self.now() if arrived_s is None else arrived_s))
        self.n_came += 1

    def end(self) -> None:
        """End the source: what is there is the last step, or none."""
        self.ended = True

    def take(self) -> StepFrames | None:
        """Take the next step; None while its frames have not all come. Drops late ones first.

        Raises UserError where the frames of a step differ in size.
        """
        self._drop_late()
        n = self._n_next()
        if n == 0:
            return None
        taken = [self._frames.popleft() for _ in range(n)]
        self.n_used += n
        if len({frame.shape for _, frame, _ in taken}) > 1:
            raise UserError(f"frames of different sizes within the step at {taken[0].time_s} s; resize them alike")
        pictures = stack_frames([arrived.frame for arrived in taken])
        seconds = (len(pictures) if self._frames else self._wanted) / FPS
        step = StepFrames(
            pictures, taken[0].time_s, taken[0].time_s + seconds, taken[-1].arrived_s, n, self._dropped_since
        )
        self.begun, self._dropped_since = True, 0
        return step

    def give_up(self, step: StepFrames | None = None) -> None:
        """Count as dropped a step that was taken and not spoken, and all frames that wait: the stream is closed."""
        if step is not None:
            self.n_used -= step.n_frames
            self.n_dropped += step.n_frames
        self._drop(len(self._frames))

    @property
    def _wanted(self) -> int:
        """Frames of a whole next step."""
        return STEP_FRAMES if self.begun else FIRST_STEP_FRAMES

    def _n_next(self) -> int:
        """Frames of the next step, as far as it is complete; 0 while it is not."""
        next_ones = list(islice(self._frames, self._wanted))
        n = frames_without_hole([time_s for time_s, _, _ in next_ones])
        if n == self._wanted or n < len(next_ones):
            return n
        return n if self.ended and not self.whole_steps else 0

    def _drop_late(self) -> None:
        while self.is_late and len(self._frames) >= (n := self._n_next()) + STEP_FRAMES:
            self._drop(min(n, STEP_FRAMES))
        if self.ended and self.whole_steps and not self._n_next():
            self._drop(len(self._frames))

    def _drop(self, n: int) -> None:
        for _ in range(n):
            self._frames.popleft()
        self.n_dropped += n
        self._dropped_since += n


def stack_frames(pictures: Sequence[Tensor]) -> Tensor:
    """Stack frames [3, H, W] to uint8 [T, 3, H, W], the last repeated where their number is odd: a patch spans two."""
    return torch.stack([*pictures, *[pictures[-1]] * (len(pictures) % 2)])
