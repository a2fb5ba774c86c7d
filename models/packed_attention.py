"""Attention within each sample of a packed row: one causal product a sample, or flash-attention's varlen kernel.

Registered with the library's own table of attention functions; no mask of T x T is ever made.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from utils.errors import UserError

NAME = "packed_sdpa"


def packed_sdpa_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    segments: Sequence[int] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention of [B, heads, T, D]; with `segments`, lengths that sum to T, within each of them alone.

    Returns [B, T, heads, D] and no weights, as the library's own functions do.
    """
    if segments is None or len(segments) == 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    lengths = list(segments)
    parts = zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True)
    return torch.cat([sdpa_attention_forward(module, *part, None, **kwargs)[0] for part in parts], dim=1), None


def use_packed_attention(model: nn.Module) -> None:
    """Let a model's text layers attend within samples, on what it was loaded with: sdpa or flash_attention_2.

    Raises UserError for another attention. To be called once, before training.
    """
    text = model.model.language_model
    found = text.config._attn_implementation
    if "flash_attention" in found or found == NAME:
        return
    if found != "sdpa":
        raise UserError(
            f"--max_tokens_per_batch with --attn_implementation {found}: samples in one row would see each other; "
            "sdpa and flash_attention_2 keep them apart, so give one of these or leave the flag out"
        )
    AttentionInterface.register(NAME, packed_sdpa_attention)
    text.set_attn_implementation(NAME)


def segment_arguments(model: nn.Module, segments: Sequence[int] | None, device: torch.device) -> dict[str, Any]:
    """What the text model's forward pass is given for a row of these segments.

    Raises ValueError for a model that would let them see each other.
    """
    if segments is None:
        return {}
    found = model.model.language_model.config._attn_implementation
    if found == NAME:
        return {"segments": tuple(segments)}
    if "flash_attention" not in found:
        raise ValueError(f"a packed row under {found}: call use_packed_attention first")
    # Lengths are known here, so the borders reach the device without a wait for it.
    borders = torch.tensor([0, *segments]).cumsum(0).to(device=device, dtype=torch.int32, non_blocking=True)
    longest = max(segments)
    return {"cu_seq_lens_q": borders, "cu_seq_lens_k": borders, "max_length_q": longest, "max_length_k": longest}
