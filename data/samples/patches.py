"""Frames cut into the patches that the vision tower reads."""

import torch

PATCH = 14  # pixels a side
MERGE = 2  # patches a side that become one visual token
TEMPORAL = 2  # frames in one patch


def cut_patches(frames: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int, int]]:
    """Cut frames into Qwen2-VL's patches, in the order in which 2 x 2 of them merge to one visual token.

    frames: uint8 [T, 3, H, W], T even (an image is one frame given twice), H and W multiples of 28.
    Returns uint8 [t*h*w, 3*2*14*14] and the grid (t, h, w) in patches. Values stay grey levels: they are
    normalised on the model's device, where a byte has travelled instead of a float.
    """
    n_frames, channels, height, width = frames.shape
    if n_frames % TEMPORAL or height % (PATCH * MERGE) or width % (PATCH * MERGE):
        raise ValueError(f"frames {tuple(frames.shape)}: need an even count and sides that are multiples of 28")
    t, h, w = n_frames // TEMPORAL, height // PATCH, width // PATCH
    cut = frames.reshape(t, TEMPORAL, channels, h // MERGE, MERGE, PATCH, w // MERGE, MERGE, PATCH)
    cut = cut.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    return cut.reshape(t * h * w, channels * TEMPORAL * PATCH * PATCH), (t, h, w)


def noise_like(patches: torch.Tensor, seed: int) -> torch.Tensor:
    """Grey levels of the same shape without content; zeros would blow up the first layer norm in training."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, patches.shape, dtype=torch.uint8, generator=generator)
