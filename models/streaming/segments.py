"""A stream's live tokens in order, as runs of text or of one step's frames: what can be dropped or moved."""

from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from torch import Tensor

from models.streaming.options import RetentionOptions


@dataclass
class Segment:
    """Tokens that stay or go together: text of a step, or one visual block with the markers around it.

    positions: int64 [3, n]; start: the first position it takes, span: how many (a block takes its largest side);
    end_s: the stream's second at which the block ends; upright: its keys before any rotation, from the first move on.
    """

    is_vision: bool
    step: int
    start: int
    span: int
    ids: np.ndarray
    positions: np.ndarray
    slots: np.ndarray
    end_s: float = 0.0
    pinned: bool = False
    upright: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def stop(self) -> int:
        """The first position after it."""
        return self.start + self.span


@dataclass
class Ledger:
    """The segments of a stream, oldest first."""

    segments: list[Segment] = field(default_factory=list)

    def expired(self, options: RetentionOptions, now_s: float) -> list[Segment]:
        """What a window no longer holds at second `now_s`."""
        gone = []
        room = float("inf") if options.vision_tokens is None else options.vision_tokens
        for segment in reversed([s for s in self.segments if s.is_vision and not s.pinned]):
            room -= len(segment)
            if segment.end_s <= now_s - options.vision_s or room < 0:
                gone.append(segment)
        text = [s for s in self.segments if not s.is_vision and not s.pinned]
        room, oldest_kept = options.text_tokens, float("inf")
        for step, segments in groupby(reversed(text), key=lambda s: s.step):
            room -= sum(map(len, segments))
            if room < 0:
                break
            oldest_kept = step
        return gone + [s for s in text if s.step < oldest_kept]

    def remove(self, gone: list[Segment]) -> None:
        """Forget these segments."""
        dropped = {id(segment) for segment in gone}
        self.segments = [segment for segment in self.segments if id(segment) not in dropped]

    def shifts(self) -> list[int]:
        """By how much each segment has to move for positions without gaps, the latest staying where it is."""
        shifts = []
        cursor = self.segments[-1].stop if self.segments else 0
        for segment in reversed(self.segments):
            cursor -= segment.span
            shifts.append(cursor - segment.start)
        return shifts[::-1]
