"""Images as a video of so many a second: a folder of them, in natural order of their names, or a list."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.video.clip import Rule
from data.video.container import VideoError
from data.video.frame_plan import FRAME_FACTOR, Clip, FramePlan, FrameTable, VideoLimits, plan_question, plan_stream
from data.video.images import read_picture, stack_images

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif")


def read_frame_folder(
    folder: str | os.PathLike,
    fps: float,
    start_s: float | None = None,
    end_s: float | None = None,
    *,
    limits: VideoLimits,
    rule: Rule = "question",
) -> Clip:
    """Read the images of a window, chosen by a rule of read_clip: image i is shown at i / fps seconds.

    start_s, end_s: both ends inside; None leaves a side open. Returns a Clip of frames uint8 [n, 3, H, W], n even,
    resized to the size that the first one gets. Raises VideoError where the folder is missing or holds no image, where
    the window holds none, and where an image that is needed cannot be read.
    """
    if not Path(folder).is_dir():
        raise VideoError(f"{folder}: no such folder; check the path and the folder that it is relative to")
    return read_frames(list_images(folder), fps, start_s, end_s, limits=limits, rule=rule, name=folder)


def read_frames(
    paths: Sequence[str | os.PathLike],
    fps: float,
    start_s: float | None = None,
    end_s: float | None = None,
    *,
    limits: VideoLimits,
    rule: Rule = "question",
    name: str | os.PathLike,
) -> Clip:
    """Read a window of images, `fps` of them a second, as read_frame_folder; name: for messages."""
    table = FrameTable.even(len(paths), fps)
    try:
        if rule == "stream":
            plan = plan_stream(table, start_s, end_s, limits)
        else:
            plan = plan_question(table, start_s, end_s, limits, average_fps=fps)
    except ValueError as error:
        raise VideoError(f"{name}: {error}; correct the window or leave out the frames") from error
    return _read(paths, plan, limits, name)


def read_listed(
    paths: Sequence[str | os.PathLike], fps: float, *, limits: VideoLimits, name: str | os.PathLike
) -> Clip:
    """Read all of these images, or as many as the limits allow, spread evenly; the last twice to make them even."""
    n_shown = min(len(paths), limits.max_frames)
    chosen = np.linspace(0, len(paths) - 1, n_shown).round().astype(np.int64)
    n_padded = -n_shown % FRAME_FACTOR
    chosen = np.pad(chosen, (0, n_padded), mode="edge")
    return _read(paths, FramePlan(chosen, chosen / fps, n_padded, len(paths) / fps / n_shown), limits, name)


def _read(paths: Sequence[str | os.PathLike], plan: FramePlan, limits: VideoLimits, name: str | os.PathLike) -> Clip:
    images = (read_picture(paths[index]) for index in plan.indices)
    return Clip(stack_images(images, len(plan), limits, name), plan.times_s, plan)


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Return the images of a folder in natural order: 2.png before 10.png. Raises VideoError where there is none.

    Files that do not end in one of SUFFIXES are no images and are left out.
    """
    paths = [path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    if not paths:
        raise VideoError(f"{folder}: the folder holds no image; images end in {', '.join(SUFFIXES)}")
    return sorted(paths, key=lambda path: (_natural(path.name), path.name))


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that compares runs of digits by their value."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in re.split(r"(\d+)", name) if part
    ]
