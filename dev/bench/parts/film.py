"""Frames for benchmarks: the shipped match, decoded once and played in a circle."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from data.video.frame_plan import VideoLimits
from data.video.live import live_frames

MATCH = Path(__file__).resolve().parents[3] / "demo" / "sources" / "match_1.mp4"


def film(size_hw: tuple[int, int] = (84, 140)) -> list[Tensor]:
    """The match's frames, uint8 [3, H, W], 2 a second."""
    limits = VideoLimits(min_pixels=84 * 140, total_pixels=84 * 140, max_frames=480)
    frames = torch.stack([timed.frame for timed in live_frames(MATCH, limits=limits)])
    if tuple(frames.shape[2:]) != size_hw:
        frames = F.interpolate(frames.float(), size=size_hw, mode="bilinear").round().to(torch.uint8)
    return list(frames)


def steps(pictures: list[Tensor], n_steps: int) -> Iterator[tuple[Tensor, float, float]]:
    """Frames uint8 [T, 3, H, W], start and end in seconds of each step."""
    frames = cycle(pictures)
    for number in range(n_steps):
        n = 6 if number == 0 else 2
        start_s = 0.0 if number == 0 else number + 2.0
        yield torch.stack([next(frames) for _ in range(n)]), start_s, start_s + n / 2
