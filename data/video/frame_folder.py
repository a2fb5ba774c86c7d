"""A folder of images, in natural order of their names, as a video of so many a second."""

import os
import re
from pathlib import Path

from data.video.container import VideoError
from data.video.frame_plan import Clip, FrameTable, VideoLimits, plan_question
from data.video.images import read_picture, stack_images

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif")


def read_frame_folder(
    folder: str | os.PathLike,
    fps: float,
    start_s: float | None = None,
    end_s: float | None = None,
    *,
    limits: VideoLimits,
) -> Clip:
    """Read the images of a window, chosen by the question rule: image i is shown at i / fps seconds.

    start_s, end_s: both ends inside; None leaves a side open. Returns a Clip of frames uint8 [n, 3, H, W], n even,
    resized to the size that the first one gets. Raises VideoError where the folder is missing or holds no image, where
    the window holds none, and where an image that is needed cannot be read.
    """
    if not Path(folder).is_dir():
        raise VideoError(f"{folder}: no such folder; check the path and the folder that it is relative to")
    paths = list_images(folder)
    try:
        plan = plan_question(FrameTable.even(len(paths), fps), start_s, end_s, limits, average_fps=fps)
    except ValueError as error:
        raise VideoError(f"{folder}: {error}; correct the window or leave out the folder") from error
    images = (read_picture(paths[index]) for index in plan.indices)
    return Clip(stack_images(images, len(plan), limits, folder), plan.times_s, plan)


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
