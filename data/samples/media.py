"""Media of a sample: the frames that its video and image elements show, and what they depend on."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from data.samples.annotations import Sample, resolve_media
from data.samples.elements import ImageElement, VideoElement
from data.samples.patches import TEMPORAL
from data.video.clip import Rule, read_packed
from data.video.decode_cache import clip_request, identity_of
from data.video.frame_folder import list_images, read_frames, read_listed
from data.video.frame_plan import FPS, Clip, FramePlan, FrameTimes, VideoLimits
from utils.fingerprint import digest


@dataclass(frozen=True)
class Media:
    """A video or image, not read yet. path: its file, or one of its files; request: what else its frames depend on.

    read and request raise VideoError.
    """

    path: str
    request: Callable[[], dict[str, Any]]
    read: Callable[[], Clip]


def video_of(
    sample: Sample,
    element: VideoElement,
    *,
    limits: VideoLimits,
    rule: Rule,
    frame_times: FrameTimes = "grid",
    read: Callable[..., Clip],
) -> Media:
    """Find an element's video: a file, a packed file, a folder of frames or a list of them.

    read: reads a file, as read_clip does. Raises AnnotationError where it is not there.
    """
    limits, rate = element.asked.limits(limits), element.sample_fps or FPS
    window = (element.video_start, element.video_end)
    options: dict[str, Any] = {"limits": limits, "rule": rule, "frame_times": frame_times}
    if element.frames:
        frames = [resolve_media(frame, sample) for frame in element.frames]
        shown: dict[str, Any] = {"limits": limits, "name": f"{frames[0]} and {len(frames) - 1} more frames"}

        def read_them() -> Clip:
            if rule == "stream":
                return read_frames(frames, rate, rule=rule, **shown)
            return read_listed(frames, rate, **shown)

        return Media(frames[0], lambda: _request(frames, rate, window, options), read_them)
    path = resolve_media(element.video, sample, folders=element.pos is None)
    if element.pos:
        pos = element.pos
        # A long list of offsets as one number: all of it must be equal.
        offsets = hashlib.sha256(repr(pos).encode()).hexdigest()
        request = {"packed": offsets, **clip_request(None, None, **options)}
        return Media(path, lambda: request, lambda: read_packed(path, pos, limits=limits))
    if os.path.isdir(path):
        return Media(
            path,
            lambda: _request(list_images(path), rate, window, options),
            lambda: read_frames(list_images(path), rate, *window, limits=limits, rule=rule, name=path),
        )
    return Media(path, lambda: clip_request(*window, **options), lambda: read(path, *window, **options))


def image_of(sample: Sample, element: ImageElement, read: Callable[..., torch.Tensor]) -> Media:
    """Find an image, which is read as two equal frames: a patch spans two.

    read: as read_image does. Raises AnnotationError where it is not there.
    """
    path, asked = resolve_media(element.image, sample), element.asked
    sizes: dict[str, Any] = {name: asked.given[name] for name in ("min_pixels", "max_pixels") if name in asked.given}

    def read_twice() -> Clip:
        frames = read(path, **sizes, resized_hw=asked.resized_hw).repeat(TEMPORAL, 1, 1, 1)
        times_s = np.zeros(TEMPORAL)
        return Clip(frames, times_s, FramePlan(np.zeros(TEMPORAL, np.int64), times_s))

    return Media(path, lambda: {"image": asked.given or True}, read_twice)


def _request(
    frames: Sequence[str | os.PathLike], rate: float, window: tuple, options: dict[str, Any]
) -> dict[str, Any]:
    """What a clip of single frames depends on: every one of its files."""
    files = digest([identity_of(frame) for frame in frames])
    return {"frames": files, "sample_fps": rate, **clip_request(*window, **options)}
