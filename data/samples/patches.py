"""Frames cut into the patches that the vision tower reads, and the visual tokens that come of them."""

import math
from collections.abc import Sequence

import torch

from data.video.frame_plan import FRAME_FACTOR, SIZE_FACTOR

MERGE = 2  # patches a side that become one visual token
PATCH = SIZE_FACTOR // MERGE  # 14 pixels a side
TEMPORAL = FRAME_FACTOR  # frames in one patch


def grid_tokens(grid_thw: Sequence[int]) -> int:
    """Visual tokens of a grid (t, h, w) of patches, after 2 x 2 of them were merged."""
    return math.prod(grid_thw) // MERGE**2


def visual_tokens(n_frames: int, height: int, width: int) -> int:
    """Visual tokens of n_frames frames of height x width pixels, as cut_patches takes them."""
    return grid_tokens((n_frames // TEMPORAL, height // PATCH, width // PATCH))


def cut_patches(frames: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Cut frames into Qwen2-VL's patches, in the order in which 2 x 2 of them merge to one visual token.

    frames: uint8 [T, 3, H, W], T even (an image is one frame given twice), H and W multiples of 28.
    Returns uint8 [t*h*w, 3*2*14*14] and the grid (t, h, w) in patches. Values stay grey levels: they are
    normalised on the model's device, where a byte has travelled instead of a float.
    """
    n_frames, channels, height, width = frames.shape
    if n_frames % TEMPORAL or height % SIZE_FACTOR or width % SIZE_FACTOR:
        raise ValueError(f"frames {tuple(frames.shape)}: need an even count and sides that are multiples of 28")
    t, h, w = n_frames // TEMPORAL, height // PATCH, width // PATCH
    cut = frames.reshape(t, TEMPORAL, channels, h // MERGE, MERGE, PATCH, w // MERGE, MERGE, PATCH)
    cut = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return cut.reshape(t * h * w, channels * TEMPORAL * PATCH * PATCH), (t, h, w)


def noise_like(patches: torch.Tensor, seed: int) -> torch.Tensor:
    """Grey levels of the same shape without content; zeros would blow up the first layer norm in training."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, patches.shape, dtype=torch.uint8, generator=generator)
