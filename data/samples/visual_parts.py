"""The clips and images of a sample, each either as patches or as features that a vision cache kept."""

from dataclasses import dataclass, field
from typing import Any

import torch

from data.samples.patches import grid_tokens


@dataclass(frozen=True)
class VisualPart:
    """One clip or image: its grid (t, h, w) in patches, and whether its features were kept or its patches are given.

    made_of, times_s and frame_s: of a part to be kept, what its features depend on, its frames' times in seconds and
    how long each stands; dtype: of the features, kept or to be kept.
    """

    grid_thw: tuple[int, int, int]
    is_cached: bool
    dtype: torch.dtype
    made_of: dict[str, Any] = field(default_factory=dict)
    times_s: tuple[float, ...] = ()
    frame_s: float = 0.0

    @property
    def n_tokens(self) -> int:
        """Visual tokens of the part."""
        return grid_tokens(self.grid_thw)
