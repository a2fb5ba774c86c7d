"""torch's attention with a mask and fewer key heads than query heads, without a copy of the keys for each group.

transformers repeats keys and values wherever a mask is given, since a GPU's fast kernels do not take both. A CPU's
does, and there the copies of a long past cost up to a third of the time (the nano model on 12 videos of 20 clips).
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "grouped_sdpa"


def group_attention(model: Any) -> None:
    """Let a model on a CPU that uses "sdpa" attend this way from now on; others stay as they are."""
    if model.device.type != "cpu" or model.config.get_text_config()._attn_implementation != "sdpa":
        return
    AttentionInterface.register(NAME, grouped_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def grouped_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """query [B, heads, T, D], key and value [B, key heads, S, D] -> [B, T, heads, D], as transformers calls it."""
    if attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    read = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=attention_mask, scale=kwargs.get("scaling"), enable_gqa=True
    )
    return read.transpose(1, 2).contiguous(), None
