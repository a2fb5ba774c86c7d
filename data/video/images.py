"""Single images, and files of encoded frames one after the other ("pos" in an annotation)."""

import io
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from qwen_vl_utils.vision_process import smart_resize

from data.video.container import VideoError
from data.video.frame_plan import FPS, SIZE_FACTOR, Clip, FrameTable, VideoLimits, plan_question
from data.video.pixels import Resizer
from utils.file_kinds import HEAD, file_kind, kind_of

IMAGE_MIN_PIXELS = 4 * SIZE_FACTOR**2
IMAGE_MAX_PIXELS = 16384 * SIZE_FACTOR**2
PICTURE_ERRORS = (OSError, ValueError, Image.DecompressionBombError, SyntaxError)  # Pillow's, of damaged images


def read_image(
    path: str | os.PathLike,
    *,
    min_pixels: int = IMAGE_MIN_PIXELS,
    max_pixels: int = IMAGE_MAX_PIXELS,
    resized_hw: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Read an image upright, resized so that its sides are multiples of 28: uint8 [1, 3, H, W].

    resized_hw: the size to resize to, rounded to such sides. Where the upper limit is below the lower one, the upper
    one holds. Raises VideoError where the file is missing, is no image, or is over 200 times as long as it is wide.
    """
    rgb = read_picture(path)
    limits = {"min_pixels": min(min_pixels, max_pixels), "max_pixels": max_pixels}
    try:
        size = smart_resize(*(resized_hw or rgb.shape[:2]), factor=SIZE_FACTOR, **limits)
    except ValueError as error:
        raise VideoError(f"{path}: cannot be resized: {error}; crop it") from error
    return _resize_image(rgb, size)[None]


def read_picture(path: str | os.PathLike) -> np.ndarray:
    """Read an image as it is stored: RGB uint8 [H, W, 3], upright. Raises VideoError where it cannot be read."""
    try:
        encoded = Path(path).read_bytes()
        return decode_image(encoded)
    except FileNotFoundError:
        raise VideoError(f"{path}: no such file; check the path and the folder that it is relative to") from None
    except IsADirectoryError:
        raise VideoError(f"{path}: not a file but a folder; give an image") from None
    except PICTURE_ERRORS as error:
        why = error.strerror if isinstance(error, PermissionError) else _why_no_picture(encoded, error)
        raise VideoError(f"{path}: cannot be read as an image: {why}") from error


def _why_no_picture(encoded: bytes, error: Exception) -> str:
    kind = kind_of(encoded[:HEAD])
    if kind and not kind.is_image:
        return kind.instead_of("an image that is read here", "give an image")
    what = "of no image format that is known" if isinstance(error, UnidentifiedImageError) else str(error)
    return f"{what}; check the file"


def read_packed(path: str | os.PathLike, pos: list[int], *, limits: VideoLimits) -> Clip:
    """Read a file of encoded frames (JPEG, PNG, ...): pos holds each frame's END offset, the first starts at
    0.

    The frames count as 2 a second and are chosen by the question-answering rule. Raises VideoError where an
    offset is out of order or behind the file's end, or where a chosen frame cannot be decoded.
    """
    _check_offsets(path, pos)
    plan = plan_question(FrameTable.even(len(pos), FPS), None, None, limits)
    with open(path, "rb") as file:
        images = (_packed_frame(path, file, pos, int(index)) for index in plan.indices)
        return Clip(stack_images(images, len(plan), limits, path), plan.times_s, plan)


def stack_images(
    images: Iterable[np.ndarray], n_frames: int, limits: VideoLimits, name: str | os.PathLike
) -> torch.Tensor:
    """Resize n_frames images, RGB uint8 [H, W, 3], as frames of a clip: uint8 [n_frames, 3, *size of the first].

    Raises VideoError where the first cannot be resized; `name` says whose images they are.
    """
    frames, resize = None, None
    for place, rgb in enumerate(images):
        if frames is None:
            resize = Resizer(frame_size(rgb, n_frames, limits, name))
            frames = torch.empty((n_frames, 3, *resize.size_hw), dtype=torch.uint8)
        resize(rgb, out=frames[place])
    return frames


def decode_image(encoded: bytes) -> np.ndarray:
    """Return an image as RGB uint8 [H, W, 3], turned as its EXIF says, on white where it is transparent.

    Grey of more than 8 bits is scaled by its range: 65535 is white, and 1 where no value is larger and they are
    fractions.
    """
    with Image.open(io.BytesIO(encoded)) as opened:
        image = ImageOps.exif_transpose(opened)
        if image.mode.startswith(("I", "F")):
            return np.repeat(_eight_bits(np.asarray(image))[..., None], 3, axis=2)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return np.array(image.convert("RGB"))


def _eight_bits(grey: np.ndarray) -> np.ndarray:
    """Grey values of any type [H, W] as uint8, by the least of the usual ranges that holds them all."""
    values = np.nan_to_num(grey.astype(np.float64), posinf=0).clip(min=0)
    highest = values.max(initial=0)
    tops = (65535,) if grey.dtype.itemsize == 2 else (1, 255, 65535) if grey.dtype.kind == "f" else (255, 65535)
    top = next((top for top in tops if highest <= top), highest)
    return (values * (255 / top) + 0.5).astype(np.uint8)


def _resize_image(rgb: np.ndarray, size_hw: tuple[int, int]) -> torch.Tensor:
    """Resize as images are resized for Qwen2-VL: Pillow's bicubic. Returns uint8 [3, H, W]."""
    image = Image.fromarray(rgb).resize(size_hw[::-1], Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _check_offsets(path: str | os.PathLike, pos: list[int]) -> None:
    if not Path(path).is_file():
        raise VideoError(f"{path}: no such file; check the path and the folder that it is relative to")
    size = os.path.getsize(path)
    ordered = all(isinstance(end, int) for end in pos) and all(
        start < end for start, end in zip([0, *pos], pos, strict=False)
    )
    if not pos or not ordered:
        raise VideoError(f"{path}: pos must hold the end offset of each frame in rising order; it is {pos[:8]}...")
    if pos[-1] > size:
        kind = file_kind(path)
        if kind and not kind.may_play:
            raise VideoError(f"{path}: {kind.instead_of('packed frames', 'get it again')}")
        raise VideoError(f"{path}: pos ends at byte {pos[-1]} of {size}: the file is truncated, or pos is another's")


def _packed_frame(path: str | os.PathLike, file: io.BufferedReader, pos: list[int], index: int) -> np.ndarray:
    start = pos[index - 1] if index else 0
    file.seek(start)
    try:
        return decode_image(file.read(pos[index] - start))
    except PICTURE_ERRORS as error:
        raise VideoError(
            f"{path}: frame {index}, bytes {start} to {pos[index]}, is no image: {error}; does pos fit?"
        ) from error


def frame_size(rgb: np.ndarray, n_frames: int, limits: VideoLimits, name: str | os.PathLike) -> tuple[int, int]:
    """Size of an image, RGB [H, W, 3], as one of n_frames frames. Raises VideoError where there is none."""
    try:
        return limits.size_hw(*rgb.shape[:2], n_frames)
    except ValueError as error:
        raise VideoError(f"{name}: its images cannot be resized: {error}") from error
