"""A sample as the model sees it: turns, texts and frames recovered from its ids, labels and patches.

Nothing is taken from the annotation, so a mistake on the way from there to the model shows.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch

from data.samples.conversation import IGNORED, ChatFormat
from data.samples.encoder import Example
from data.samples.patches import MERGE, PATCH, TEMPORAL, grid_tokens


@dataclass(frozen=True)
class TextView:
    """Tokens of text in a row that are all trained on, or all not. `pieces` holds each token as text."""

    text: str
    ids: list[int]
    pieces: list[str]
    trained: bool


@dataclass(frozen=True)
class BlockView:
    """A visual block: its grid in patches, tokens, frames uint8 [n, 3, H, W] and, for videos, their times."""

    kind: str
    grid_thw: tuple[int, int, int]
    n_tokens: int
    frames: torch.Tensor
    times_s: list[float]


@dataclass(frozen=True)
class TurnView:
    """One turn. Token counts include its markup; positions are the smallest and largest of the three axes."""

    role: Literal["system", "user", "assistant"]
    parts: list[TextView | BlockView]
    n_tokens: int
    n_trained: int
    positions: tuple[int, int]

    @property
    def blocks(self) -> list[BlockView]:
        """The visual blocks among the parts."""
        return [part for part in self.parts if isinstance(part, BlockView)]

    @property
    def texts(self) -> list[TextView]:
        """The texts among the parts."""
        return [part for part in self.parts if isinstance(part, TextView)]


def view_turns(example: Example, chat: ChatFormat) -> list[TurnView]:
    """The turns of a sample. Markup ids come from markup only, so they cut the ids without doubt."""
    ids, labels = example.input_ids.tolist(), example.labels.tolist()
    starts = [i for i, token in enumerate(ids) if token == chat.im_start] + [len(ids)]
    blocks = _blocks(example)
    turns = []
    for start, stop in pairwise(starts):
        role = next(r for r in ("system", "user", "assistant") if _starts_with(ids[start:], chat.header_ids(r)))
        first = start + len(chat.header_ids(role))
        last = ids.index(chat.im_end, first)
        positions = example.position_ids[:, start:stop]
        turns.append(
            TurnView(
                role,
                list(_parts(ids[first:last], labels[first:last], blocks, chat)),
                n_tokens=stop - start,
                n_trained=sum(label != IGNORED for label in labels[start:stop]),
                positions=(int(positions.min()), int(positions.max())),
            )
        )
    return turns


def frames_from_patches(patches: torch.Tensor, grid_thw: tuple[int, int, int]) -> torch.Tensor:
    """Patches uint8 [t*h*w, 1176] put together again as frames uint8 [2t, 3, 14h, 14w]."""
    t, h, w = grid_thw
    cut = patches.reshape(t, h // MERGE, w // MERGE, MERGE, MERGE, 3, TEMPORAL, PATCH, PATCH)
    return cut.permute(0, 6, 5, 1, 3, 7, 2, 4, 8).reshape(t * TEMPORAL, 3, h * PATCH, w * PATCH)


def _blocks(example: Example) -> Iterator[BlockView]:
    n_patches = n_times = 0
    for kind, grid in zip(example.kinds, example.grid_thw.tolist(), strict=True):
        size = math.prod(grid)
        frames = frames_from_patches(example.patches[n_patches : n_patches + size], tuple(grid))
        n_patches += size
        times_s: list[float] = []
        if kind == "image":
            frames = frames[:1]  # it is given twice to fill a patch
        else:
            times_s = example.frame_times_s[n_times : n_times + len(frames)].tolist()
            n_times += len(frames)
        yield BlockView(kind, tuple(grid), grid_tokens(grid), frames, times_s)


def _parts(
    ids: list[int], labels: list[int], blocks: Iterator[BlockView], chat: ChatFormat
) -> Iterator[TextView | BlockView]:
    i = 0
    while i < len(ids):
        if ids[i] == chat.vision_start:
            i = ids.index(chat.vision_end, i) + 1
            yield next(blocks)
            continue
        trained, j = labels[i] != IGNORED, i
        while j < len(ids) and ids[j] != chat.vision_start and (labels[j] != IGNORED) == trained:
            j += 1
        yield TextView(_decode(chat, ids[i:j]), ids[i:j], [_decode(chat, [k]) for k in ids[i:j]], trained)
        i = j


def _decode(chat: ChatFormat, ids: list[int]) -> str:
    return chat.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _starts_with(ids: list[int], prefix: list[int]) -> bool:
    return ids[: len(prefix)] == prefix
