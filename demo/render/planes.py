"""Decoded frames as planes of bytes: made upright, copied, and drawn on."""

from collections.abc import Sequence
from typing import NamedTuple

import av
import numpy as np

from data.video.pixels import UPRIGHT, Orientation
from demo.render.painter import Patch

FORMAT = "yuv420p"
# FFmpeg's numbers of colour matrices, and the weights of red and blue in luma (ITU-R BT.709, BT.2020 and BT.601).
BT709, UNKNOWN_MATRIX, BT2020, FULL_RANGE = 1, 2, 9, 2
RED_BLUE = {BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593)}
RED_BLUE_601 = (0.299, 0.114)


class Drawn(NamedTuple):
    """A rectangle of a plane, and what its bytes become: (old * kept + added) >> 8."""

    plane: int
    rows: slice
    columns: slice
    kept: np.ndarray  # uint16, 256 where nothing is drawn
    added: np.ndarray  # uint16


class Colours(NamedTuple):
    """Colour matrix of a video: how its numbers stand for colours."""

    red: float
    blue: float
    full_range: bool


def colours_of(frame: av.VideoFrame) -> Colours:
    """A frame's own matrix; BT.709 for unmarked high definition, as players assume."""
    space = frame.colorspace
    if space == UNKNOWN_MATRIX and frame.height >= 720:
        space = BT709
    return Colours(*RED_BLUE.get(space, RED_BLUE_601), frame.color_range == FULL_RANGE)


def views(frame: av.VideoFrame) -> list[np.ndarray]:
    """The planes of a frame as arrays uint8 [H, W] that share its memory."""
    found = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8, count=plane.line_size * plane.height).reshape(plane.height, -1)
        found.append(rows[:, : plane.width])
    return found


def copied(frame: av.VideoFrame, orientation: Orientation = UPRIGHT) -> av.VideoFrame:
    """A copy in memory of its own, turned and mirrored; same time and colours."""
    width, height = (frame.height, frame.width) if orientation.transposed else (frame.width, frame.height)
    copy = av.VideoFrame(width, height, frame.format.name)
    for into, plane in zip(views(copy), views(frame), strict=True):
        np.copyto(into, orientation.turn(plane))
    copy.pts, copy.duration = frame.pts, frame.duration
    copy.colorspace, copy.color_range = frame.colorspace, frame.color_range
    copy.color_primaries, copy.color_trc = frame.color_primaries, frame.color_trc
    return copy


def stencil(patches: Sequence[Patch], frame: av.VideoFrame, colours: Colours, pixel_aspect: float) -> list[Drawn]:
    """Precomputed drawing of pictures on frames like this one.

    pixel_aspect: width of a pixel over its height; the patches are for square pixels.
    """
    drawn = []
    for patch in patches:
        picture, left = patch.picture, round(patch.x / pixel_aspect)
        if pixel_aspect != 1:
            picture = picture.resize((max(1, round(picture.width / pixel_aspect)), picture.height))
        drawn += _planes(np.asarray(picture, np.float32) / 255, left, patch.y, frame, colours)
    return drawn


def _planes(rgba: np.ndarray, left: int, top: int, frame: av.VideoFrame, colours: Colours) -> list[Drawn]:
    """The parts of a picture, float [h, w, 4], that lie on the frame, one of each plane."""
    x0, y0 = max(left, 0) // 2 * 2, max(top, 0) // 2 * 2  # chroma has one value for two by two pixels
    x1, y1 = min(left + rgba.shape[1], frame.width), min(top + rgba.shape[0], frame.height)
    if x1 <= x0 or y1 <= y0:
        return []
    canvas = np.zeros(((y1 - y0 + 1) // 2 * 2, (x1 - x0 + 1) // 2 * 2, 4), np.float32)
    part = rgba[max(y0 - top, 0) : y1 - top, max(x0 - left, 0) : x1 - left]
    y, x = max(top - y0, 0), max(left - x0, 0)
    canvas[y : y + part.shape[0], x : x + part.shape[1]] = part
    alpha = canvas[..., 3]
    red, green, blue = (canvas[..., i] * alpha for i in range(3))
    luma = colours.red * red + (1 - colours.red - colours.blue) * green + colours.blue * blue
    cb, cr = (blue - luma) / (2 - 2 * colours.blue), (red - luma) / (2 - 2 * colours.red)
    black, scale, chroma_scale = (0, 255, 255) if colours.full_range else (16, 219, 224)
    values = [black * alpha + scale * luma, 128 * alpha + chroma_scale * cb, 128 * alpha + chroma_scale * cr]
    found = []
    for plane, value in enumerate(values):
        half = 2 if plane else 1
        kept, added = _shrunk(1 - alpha, half), _shrunk(value, half)
        rows, columns = slice(y0 // half, y0 // half + kept.shape[0]), slice(x0 // half, x0 // half + kept.shape[1])
        found.append(Drawn(plane, rows, columns, _fixed(kept), _fixed(added) + np.uint16(128)))
    return found


def _shrunk(values: np.ndarray, half: int) -> np.ndarray:
    height, width = values.shape
    return values.reshape(height // half, half, width // half, half).mean((1, 3))


def _fixed(values: np.ndarray) -> np.ndarray:
    return np.round(np.clip(values, 0, 255) * 256).astype(np.uint16)


def draw(frame: av.VideoFrame, drawn: Sequence[Drawn]) -> None:
    """Draw on a frame's own memory."""
    planes = views(frame)
    for plane, rows, columns, kept, added in drawn:
        part = planes[plane][rows, columns]
        values = np.multiply(part, kept, dtype=np.uint16)
        values += added
        values >>= 8
        part[...] = values
