"""The one place that computes positions: M-RoPE's three axes for text and visual tokens, whole or incrementally."""

from collections.abc import Sequence
from typing import Literal, Protocol, get_args

import torch

from data.samples.patches import MERGE, grid_tokens

PositionMode = Literal["mrope", "sequential", "livecc"]
POSITION_MODES: tuple[str, ...] = get_args(PositionMode)


class Block(Protocol):
    """A visual block as positions need it: its kind, its grid in patches, and positions from one time to the next."""

    @property
    def kind(self) -> str: ...

    @property
    def grid_thw(self) -> tuple[int, int, int]: ...

    @property
    def time_step(self) -> float: ...


class PositionTracker:
    """Positions of a growing context: each `extend` looks only at the new tokens and a running offset.

    `mrope` is the model's definition: text advances the three axes (time, height, width) together by one; a visual
    block that starts at s takes s + its coordinates in merged tokens, and what follows starts at the largest of them
    plus one. Its grids of time are `time_step` apart, rounded down: one position in Qwen2-VL, seconds times
    `tokens_per_second` in Qwen2.5-VL. (The library's own index goes on at s + max(H/2, W/2), and lets long videos
    collide with the text after them.)
    `sequential` numbers every token. `livecc` is the published streaming loop: the first visual block has three axes,
    later ones are numbered like text.
    """

    def __init__(self, mode: PositionMode, first: int = 0):
        if mode not in POSITION_MODES:
            raise ValueError(f"position mode {mode!r}: choose one of {', '.join(POSITION_MODES)}")
        self.mode = mode
        self.next = first
        self.seen_block = False

    def fork(self) -> "PositionTracker":
        """An independent tracker that continues from here."""
        other = PositionTracker(self.mode)
        other.next, other.seen_block = self.next, self.seen_block
        return other

    def extend(self, input_ids: torch.Tensor, blocks: Sequence[Block], pad_ids: dict[str, int]) -> torch.Tensor:
        """Positions of the next tokens.

        input_ids: int64 [T]; blocks: the visual blocks among them, in order; pad_ids: kind -> its pad token.
        Returns int64 [3, T]. Raises ValueError when the pad tokens do not match the blocks.
        """
        pieces, at = [], 0
        for block, start in zip(blocks, _block_starts(input_ids, blocks, pad_ids), strict=True):
            pieces += [self._text(start - at), self._visual(block)]
            at = start + grid_tokens(block.grid_thw)
        pieces.append(self._text(len(input_ids) - at))
        return torch.cat(pieces, dim=1)

    def _text(self, n: int) -> torch.Tensor:
        positions = torch.arange(self.next, self.next + n).expand(3, n)
        self.next += n
        return positions

    def _visual(self, block: Block) -> torch.Tensor:
        flat = self.mode == "sequential" or (self.mode == "livecc" and self.seen_block)
        self.seen_block = True
        if flat:
            return self._text(grid_tokens(block.grid_thw))
        t, h, w = block.grid_thw[0], block.grid_thw[1] // MERGE, block.grid_thw[2] // MERGE
        times = (torch.arange(t) * block.time_step).long()  # a product in float32, as in the library's processor
        axes = torch.meshgrid(times, torch.arange(h), torch.arange(w), indexing="ij")
        positions = torch.stack(axes).reshape(3, -1) + self.next
        self.next += max(int(times[-1]) + 1, h, w)
        return positions


def position_ids(
    input_ids: torch.Tensor, blocks: Sequence[Block], mode: PositionMode, pad_ids: dict[str, int]
) -> torch.Tensor:
    """Positions of a whole sample: int64 [T] -> int64 [3, T]."""
    return PositionTracker(mode).extend(input_ids, blocks, pad_ids)


def _block_starts(input_ids: torch.Tensor, blocks: Sequence[Block], pad_ids: dict[str, int]) -> list[int]:
    """Index of each block's first pad token, after checking that pads and blocks agree one to one."""
    if not blocks and len(input_ids) == 1 and int(input_ids) not in pad_ids.values():
        return []  # one token that was said: nearly every call of a stream
    is_pad = torch.isin(input_ids, torch.tensor(sorted(pad_ids.values())))
    pads = is_pad.nonzero().flatten()
    starts, used = [], 0
    for block in blocks:
        n = grid_tokens(block.grid_thw)
        run = pads[used : used + n]
        if len(run) < n or run[-1] - run[0] != n - 1 or not bool((input_ids[run] == pad_ids[block.kind]).all()):
            raise ValueError(f"{block.kind} block of grid {block.grid_thw} needs {n} adjacent pad tokens of its kind")
        starts.append(int(run[0]))
        used += n
    if used != len(pads):
        raise ValueError(f"{len(pads)} visual pad tokens for blocks that take {used}")
    return starts
