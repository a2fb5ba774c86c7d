"""Frames to stream, uint8 [T, 3, H, W]: films that have nothing in common."""

import torch
from torch import Tensor

SIZE = (56, 84)  # two sides that differ: swapped axes show


def noise(n_frames: int, seed: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Grey levels at random; the same seed gives the same film."""
    return torch.randint(0, 256, (n_frames, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def black(n_frames: int) -> Tensor:
    """Nothing to see."""
    return torch.zeros((n_frames, 3, *SIZE), dtype=torch.uint8)


def moving(n_frames: int) -> Tensor:
    """A white square that goes from left to right over black."""
    frames = black(n_frames)
    for number, frame in enumerate(frames):
        left = 5 * number % (SIZE[1] - 20)
        frame[:, 18:38, left : left + 20] = 255
    return frames
