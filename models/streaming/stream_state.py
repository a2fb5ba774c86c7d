"""State of the model in one stream: its KV cache, its positions, and the tokens in them."""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from data.samples.conversation import VisualBlock
from data.samples.positions import PositionMode, PositionTracker
from models.qwen2_vl import StreamingModel
from models.streaming.cache import KVCache, SlotAllocation
from models.streaming.options import RetentionOptions
from models.streaming.rotary import Rotary, rotate
from models.streaming.token_runs import TokenRun, TokenRuns

log = logging.getLogger(__name__)

ROOM = 1024  # positions left free below the trained limit when the kept ones are moved back to the start


class StreamState:
    """State of the model in one stream. Nothing is kept on the model, so streams do not disturb each other.

    `retention` says what is kept; cache: where, by default in storage of its own. first_position: where positions
    begin; they stay below the model's trained range unless everything is kept.
    """

    def __init__(
        self,
        model: StreamingModel,
        position_mode: PositionMode,
        retention: RetentionOptions | None = None,
        first_position: int = 0,
        cache: KVCache | None = None,
    ):
        text = model.config.get_text_config()
        self.model, self.retention = model, retention or RetentionOptions()
        self.device = model.device  # the model looks for its own each time
        self.max_positions = text.max_position_embeddings
        self.cache = cache or KVCache.of(model)
        self.positions = PositionTracker(position_mode, first_position)
        self.tokens = TokenRuns()
        self.step = -1
        # How often each token is in the cache, for the repetition penalty.
        self.counts = torch.zeros(text.vocab_size, dtype=torch.int32, device=self.device)
        self.rotary = Rotary(model.model.language_model)
        self.reread_s = 0.0  # when `reprefill` last read the text again
        self.to_reread: list[TokenRun] = []  # what it then has to read
        self._warned = False

    @property
    def n_tokens(self) -> int:
        """Tokens in the cache."""
        return self.cache.n_live

    def fork(self, cache: KVCache | None = None) -> "StreamState":
        """Copy the state; cache: a copy of this one's."""
        other = StreamState(self.model, self.positions.mode, self.retention, cache=cache or self.cache.fork())
        other.positions, other.counts = self.positions.fork(), self.counts.clone()
        other.tokens, other.to_reread = self.tokens.fork(), [replace(run) for run in self.to_reread]
        other.step, other.reread_s, other._warned = self.step, self.reread_s, self._warned
        return other

    def begin_step(self, now_s: float) -> list[int]:
        """Begin the step that ends at second `now_s` of the stream: drop what is not kept any longer.

        Returns ids that have to be read before anything else, where text is to be read again.
        """
        self.step += 1
        options = self.retention
        if options.cache_policy == "window" and self.step > 0:
            self._drop(self.tokens.expired(options, now_s))
            self._stay_in_range()
        if options.cache_policy == "reprefill" and now_s - self.reread_s >= options.reprefill_s:
            self.reread_s = now_s
            return self._text_to_reread()
        return []

    def admit(
        self, ids: Sequence[int], blocks: Sequence[VisualBlock] = (), end_s: float = 0.0, masked: bool = True
    ) -> tuple[Tensor, Tensor, SlotAllocation]:
        """Assign new tokens their positions and slots: (ids [n], positions [3, n], allocation).

        ids: with one pad token per visual token; blocks: their grids, in order; end_s: when the frames among them end;
        masked: whether the allocation needs a mask.
        """
        model = self.model
        pads = {"image": model.config.image_token_id, "video": model.config.video_token_id}
        new_ids = torch.tensor(ids, dtype=torch.long)
        first = self.positions.next
        positions = self.positions.extend(new_ids, blocks, pads)
        self._warn_beyond_range()
        allocation = self.cache.take(len(ids), masked)
        self._note(new_ids.numpy(), positions.numpy(), allocation.slots, blocks, first, end_s)
        on_device = new_ids.to(self.device)
        self.counts.index_add_(0, on_device, torch.ones_like(on_device, dtype=torch.int32))
        return on_device, positions.to(self.device), allocation

    # what is where

    def _note(self, ids, positions, slots, blocks: Sequence[VisualBlock], first: int, end_s: float) -> None:
        """Record new tokens as runs: a block with its markers is one, what lies between is text."""
        at = 0
        for again in self.to_reread:  # text of earlier steps stays theirs
            piece = slice(at, at + len(again))
            again.start, again.positions, again.slots, again.upright = first, positions[:, piece], slots[piece], None
            self.tokens.runs.append(again)
            at, first = piece.stop, first + len(again)
        self.to_reread = []
        fits = len(ids) <= self.retention.sink_tokens
        for start, block in zip(self._first_pads(ids) if blocks else (), blocks, strict=True):
            first = self._note_text(ids, positions, slots, slice(at, start - 1), first)
            piece = slice(start - 1, start + block.n_tokens + 1)
            stop = int(positions[:, piece.stop - 1].max()) + 1
            run = TokenRun(
                is_vision=True, step=self.step, start=first, span=stop - first, ids=ids[piece],
                positions=positions[:, piece], slots=slots[piece], end_s=end_s, pinned=self.step <= 0 and fits,
            )  # fmt: skip
            self.tokens.runs.append(run)
            at, first = piece.stop, stop
        self._note_text(ids, positions, slots, slice(at, len(ids)), first)

    def _first_pads(self, ids: np.ndarray) -> list[int]:
        is_pad = np.isin(ids, (self.model.config.image_token_id, self.model.config.video_token_id))
        return np.flatnonzero(is_pad & ~np.r_[False, is_pad[:-1]]).tolist()

    def _note_text(self, ids, positions, slots, piece: slice, first: int) -> int:
        n = piece.stop - piece.start
        if not n:
            return first
        last = self.tokens.runs[-1] if self.tokens.runs else None
        if last is not None and not last.is_vision and last.step == self.step:
            last.ids = np.concatenate((last.ids, ids[piece]))
            last.positions = np.concatenate((last.positions, positions[:, piece]), axis=1)
            last.slots = np.concatenate((last.slots, slots[piece]))
            last.span, last.upright = last.span + n, None
        else:
            run = TokenRun(
                is_vision=False, step=self.step, start=first, span=n, ids=ids[piece],
                positions=positions[:, piece], slots=slots[piece], pinned=self.step <= 0,
            )  # fmt: skip
            self.tokens.runs.append(run)
        return first + n

    def _drop(self, gone: list[TokenRun]) -> None:
        """Drop runs and close the gaps: only what lies before a gap moves, up to what follows it."""
        if not gone:
            return
        self.tokens.remove(gone)
        self.cache.release(np.concatenate([run.slots for run in gone]))
        ids = torch.from_numpy(np.concatenate([run.ids for run in gone])).to(self.device)
        self.counts.index_add_(0, ids, torch.full_like(ids, -1, dtype=torch.int32))
        self._move(self.tokens.shifts())

    def _stay_in_range(self) -> None:
        """Move everything back to the start when positions come near the end of the trained range."""
        if self.positions.next + ROOM <= self.max_positions:
            return
        lowest = self.tokens.runs[0].start
        self._move([-lowest] * len(self.tokens.runs))
        self.positions.next -= lowest

    def _move(self, shifts: list[int]) -> None:
        """Shift runs to other positions by turning their keys.

        Keys are first turned back by the angles that they were turned by, rounding included. Text keeps these upright
        keys, so that thousands of moves add no error; frames move once or twice before they are dropped.
        """
        moved = [(run, shift) for run, shift in zip(self.tokens.runs, shifts, strict=True) if shift]
        if not moved:
            return
        upright = torch.cat([self._upright(run) for run, _ in moved], dim=2)
        for run, shift in moved:
            run.start += shift
            run.positions = run.positions + shift
        positions = torch.from_numpy(np.concatenate([run.positions for run, _ in moved], axis=1))
        slots = torch.from_numpy(np.concatenate([run.slots for run, _ in moved])).to(self.device)
        turned = rotate(upright, *self.rotary(positions, torch.float32))
        self.cache.keys[:, :, slots] = turned.to(self.cache.keys.dtype)

    def _upright(self, run: TokenRun) -> Tensor:
        """A run's keys as they were before any rotation, float32 [L, K, n, D]."""
        if run.upright is not None:
            return run.upright
        slots = torch.from_numpy(run.slots).to(self.device)
        cos, sin = self.rotary(torch.from_numpy(run.positions), torch.float32)
        upright = rotate(self.cache.keys[:, :, slots].float(), cos, -sin)
        if run.pinned or not run.is_vision:
            run.upright = upright
        return upright

    def _text_to_reread(self) -> list[int]:
        """Drop everything; return the ids of the text that is to be read again before what comes next."""
        text = [run for run in self.tokens.runs if not run.is_vision]
        room = self.retention.reprefill_text_tokens - sum(len(run) for run in text if run.pinned)
        kept = []
        for run in reversed(text):
            room -= 0 if run.pinned else len(run)
            if run.pinned or room >= 0:
                kept.append(run)
        self.to_reread = kept[::-1]
        self.cache.clear()
        self.counts.zero_()
        self.tokens.runs = []
        self.positions = PositionTracker(self.positions.mode)
        return [int(i) for run in self.to_reread for i in run.ids]

    def _warn_beyond_range(self) -> None:
        if self.positions.next > self.max_positions and not self._warned:
            self._warned = True
            log.warning(
                "the stream has passed the %d positions that the model was trained on; what it says may get worse: "
                "--cache_policy window keeps it within them",
                self.max_positions,
            )
