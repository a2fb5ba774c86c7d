"""Examples -> one batch."""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence

from data.conversation import IGNORED
from data.sample_encoder import Example


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Pad B examples on the right to the longest of T tokens.

    Returns input_ids, labels: int64 [B, T]; position_ids: int64 [3, B, T]; patches: uint8 [P, 1176] and
    grid_thw: int64 [N, 3] of all examples, in order. There is no attention mask: under causal attention no
    real token sees the padding to its right.
    """
    position_ids = [example.position_ids.T for example in examples]  # [T, 3]
    return {
        "input_ids": pad_sequence([e.input_ids for e in examples], batch_first=True, padding_value=pad_id),
        "labels": pad_sequence([e.labels for e in examples], batch_first=True, padding_value=IGNORED),
        "position_ids": pad_sequence(position_ids, batch_first=True).permute(2, 0, 1).contiguous(),
        "patches": torch.cat([example.patches for example in examples]),
        "grid_thw": torch.cat([example.grid_thw for example in examples]),
    }
