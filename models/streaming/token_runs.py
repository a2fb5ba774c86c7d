"""A stream's live tokens in order, as runs of text or of one step's frames: what can be dropped or moved."""

from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
from torch import Tensor

from models.streaming.options import RetentionOptions


@dataclass
class TokenRun:
    """Tokens that are kept or dropped together: text of a step, or one visual block with the markers around it.

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
class TokenRuns:
    """The live tokens of a stream as runs, oldest first."""

    runs: list[TokenRun] = field(default_factory=list)

    def fork(self) -> "TokenRuns":
        """Copy the runs; their arrays are shared, since they are replaced and never written to."""
        return TokenRuns([replace(run) for run in self.runs])

    def expired(self, options: RetentionOptions, now_s: float) -> list[TokenRun]:
        """Runs that a window no longer holds at second `now_s`."""
        gone = []
        room = float("inf") if options.vision_tokens is None else options.vision_tokens
        for run in reversed([s for s in self.runs if s.is_vision and not s.pinned]):
            room -= len(run)
            if run.end_s <= now_s - options.vision_s or room < 0:
                gone.append(run)
        text = [s for s in self.runs if not s.is_vision and not s.pinned]
        room, oldest_kept = options.text_tokens, float("inf")
        for step, runs in groupby(reversed(text), key=lambda s: s.step):
            room -= sum(map(len, runs))
            if room < 0:
                break
            oldest_kept = step
        return gone + [s for s in text if s.step < oldest_kept]

    def remove(self, gone: list[TokenRun]) -> None:
        """Drop these runs."""
        dropped = {id(run) for run in gone}
        self.runs = [run for run in self.runs if id(run) not in dropped]

    def shifts(self) -> list[int]:
        """Shift of each run that closes the gaps between positions, the latest run staying where it is."""
        shifts = []
        cursor = self.runs[-1].stop if self.runs else 0
        for run in reversed(self.runs):
            cursor -= run.span
            shifts.append(cursor - run.start)
        return shifts[::-1]
