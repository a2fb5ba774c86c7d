"""One sample -> what the model is given: token ids, labels, positions and patches."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch

from data.annotations import AnnotationError, Sample, resolve_media
from data.conversation import IGNORED, ChatFormat, Encoded, Turn, VisualBlock, stream_turns
from data.decode_cache import DecodeCache
from data.elements import ImageElement, TextElement, VideoElement
from data.frame_plan import FrameTimes, VideoLimits
from data.patches import TEMPORAL, cut_patches
from data.video import Clip, VideoError, read_clip, read_image, read_packed
from data.words import cut_trailing_silence, step_slices, words_by_step
from models.positions import PositionMode, position_ids

PATCH_VALUES = 3 * TEMPORAL * 14 * 14  # grey levels in a patch


@dataclass
class Example:
    """A sample as the model takes it. T tokens, N visual blocks, P patches, F frames.

    input_ids, labels: int64 [T]; position_ids: int64 [3, T]; patches: uint8 [P, 1176]; grid_thw: int64 [N, 3] in
    order of appearance (images have t = 1); kinds: "image" or "video" per block; frame_times_s: float64 [F], of every
    frame chosen from the videos, those after the last word included; counts: words spoken and left out, frames, ...
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    patches: torch.Tensor
    grid_thw: torch.Tensor
    kinds: list[str]
    frame_times_s: torch.Tensor
    chat_text: str
    counts: dict[str, int]


@dataclass
class _Draft:
    """Turns and pixels of a sample before they become tensors; `query` maps earlier speech to the query's text."""

    turns: list[Turn] = field(default_factory=list)
    patches: list[torch.Tensor] = field(default_factory=list)
    frame_times_s: list[float] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
