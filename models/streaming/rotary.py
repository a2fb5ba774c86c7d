"""Multimodal rotary embedding of the text model: positions on three axes -> rotations of queries and keys."""

import torch
from torch import Tensor
from transformers import Qwen2VLTextModel


class Rotary:
    """Rotations for one model. Low dimensions turn with time, the middle ones with height, the last with width."""

    def __init__(self, language_model: Qwen2VLTextModel):
        rotary = language_model.rotary_emb
        self.frequencies = rotary.inv_freq.float()  # [D / 2]
        self.scaling = rotary.attention_scaling
        sections = language_model.config.rope_parameters["mrope_section"]
        axes = torch.repeat_interleave(torch.arange(3), torch.tensor(sections))  # [D / 2]
        self.axes = axes.to(self.frequencies.device)

    def __call__(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin [T, D] for positions int64 [3, T]."""
        at = positions.to(self.frequencies.device).float()[self.axes].T  # [T, D / 2]
        angle = at * self.frequencies
        cos, sin = angle.cos() * self.scaling, angle.sin() * self.scaling
        return torch.cat((cos, cos), -1).to(dtype), torch.cat((sin, sin), -1).to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn vectors [..., D] by the angles of cos and sin."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
