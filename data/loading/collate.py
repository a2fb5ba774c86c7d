"""Examples -> one batch: padded, or packed into one row."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from data.samples.conversation import IGNORED
from data.samples.encoder import Example


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, Any]:
    """Pad B examples on the right to the longest of T tokens.

    Returns input_ids, labels: int64 [B, T]; position_ids: int64 [3, B, T]; and what _visual and _samples give.
    There is no attention mask: under causal attention no real token sees the padding to its right.
    """
    position_ids = [example.position_ids.T for example in examples]  # [T, 3]
    return {
        "input_ids": pad_sequence([e.input_ids for e in examples], batch_first=True, padding_value=pad_id),
        "labels": pad_sequence([e.labels for e in examples], batch_first=True, padding_value=IGNORED),
        "position_ids": pad_sequence(position_ids, batch_first=True).permute(2, 0, 1).contiguous(),
        **_visual(examples),
        **_samples(examples),
    }


def pack(examples: Sequence[Example]) -> dict[str, Any]:
    """Lay examples of T tokens in all end to end in one row, each with its own positions.

    Returns what collate does, with B = 1, and segments: the samples' lengths. No sample's first token is a label,
    as in a row of its own: the token before it is another sample's.
    """
    firsts = torch.tensor([len(example.input_ids) for example in examples]).cumsum(0)[:-1]
    labels = torch.cat([example.labels for example in examples])
    labels[firsts] = IGNORED
    return {
        "input_ids": torch.cat([example.input_ids for example in examples])[None],
        "labels": labels[None],
        "position_ids": torch.cat([example.position_ids for example in examples], dim=1)[:, None],
        "segments": [len(example.input_ids) for example in examples],
        **_visual(examples),
        **_samples(examples),
    }


def supervised_tokens(example: Example) -> int:
    """Tokens of a sample that are predicted and counted in its loss; the first one has nothing to predict it."""
    return int((example.labels[1:] != IGNORED).sum())


def _samples(examples: Sequence[Example]) -> dict[str, list[int]]:
    """supervised: the supervised tokens of each sample; sources: the number of its annotation file."""
    return {
        "supervised": [supervised_tokens(example) for example in examples],
        "sources": [example.source for example in examples],
    }


def _visual(examples: Sequence[Example]) -> dict[str, Any]:
    """patches: uint8 [P, 1176] and grid_thw: int64 [N, 3] of all blocks, in order.

    With a vision cache these are only what it did not have, a row of grid_thw a clip; parts says in order what is
    of which kind, and cached are the features kept [n, hidden].
    """
    patches = torch.cat([example.patches for example in examples])
    parts = [part for example in examples for part in example.parts or ()]
    if all(example.parts is None for example in examples):
        return {"patches": patches, "grid_thw": torch.cat([example.grid_thw for example in examples])}
    fresh = [part.grid_thw for part in parts if not part.is_cached]
    kept = [example.features.view(_dtype(example)) for example in examples if example.features is not None]
    return {
        "patches": patches,
        "grid_thw": torch.tensor(fresh, dtype=torch.int64).reshape(-1, 3),
        "cached": torch.cat(kept) if kept else None,
        "parts": parts,
    }


def _dtype(example: Example) -> torch.dtype:
    return next(part.dtype for part in example.parts or () if part.is_cached)
