"""A decoded frame to upright RGB, and RGB to the size that the model reads."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter

from data.video.hdr import TRANSFERS, tone_map

# Output rows, or columns, that one matrix product makes. A pixel needs about 8 of the input, a block of them
# a short stretch of it: a product per block wastes little. 14 was the fastest of 8 to 56 (1280x720 to
# 728x420, AVX-512).
BLOCK = 14


# FFmpeg brings these to planes of red, green and blue by the same sums as to interleaved RGB; others go a slower way,
# which rounds elsewhere. Where the width, rounded up to 8, is no multiple of 16, it leaves out the last columns (FFmpeg
# 8.1 on AVX2), so those frames are widened first.
PLANAR_FORMATS = {"yuv420p", "yuvj420p"}
PLANAR_WIDTH = 16


class RgbConverter:
    """Converts decoded frames to upright RGB, uint8 [H, W, 3]; one object keeps FFmpeg's conversion
    tables."""

    def __init__(self) -> None:
        self._reformatter, self._to_planes = VideoReformatter(), VideoReformatter()
        self._wide: av.VideoFrame | None = None

    def __call__(self, frame: av.VideoFrame) -> np.ndarray:
        if frame.color_trc in TRANSFERS:
            rgb = tone_map(self._reformatter.reformat(frame, format="rgb48le", threads=1).to_ndarray(), frame.color_trc)
        else:
            rgb = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        return np.ascontiguousarray(orientation(frame).turn(rgb))

    def fill(self, out: torch.Tensor, frame: av.VideoFrame) -> None:
        """Convert a frame into `out`, uint8 [3, H, W], as large as the frame is upright: as above, in half the time."""
        odd = frame.width % 2 or frame.height % 2 or orientation(frame) != UPRIGHT
        if odd or frame.format.name not in PLANAR_FORMATS or frame.color_trc in TRANSFERS:
            out.copy_(torch.from_numpy(self(frame)).permute(2, 0, 1))
            return
        if -frame.width % PLANAR_WIDTH >= 8:
            frame = self._widened(frame)
        green, blue, red = self._to_planes.reformat(frame, format="gbrp", threads=1).planes
        for place, plane in enumerate((red, green, blue)):
            out[place].copy_(_rows(plane)[:, : out.shape[2]])

    def _widened(self, frame: av.VideoFrame) -> av.VideoFrame:
        """Return a frame with columns of no meaning at its right, in memory that the next call uses again."""
        width = frame.width + -frame.width % PLANAR_WIDTH
        wide = self._wide
        if wide is None or (wide.width, wide.height, wide.format.name) != (width, frame.height, frame.format.name):
            wide = self._wide = av.VideoFrame(width, frame.height, frame.format.name)
            for plane in wide.planes:
                _rows(plane).zero_()
        wide.colorspace, wide.color_range = frame.colorspace, frame.color_range
        for old, new in zip(frame.planes, wide.planes, strict=True):
            _rows(new)[:, : old.width].copy_(_rows(old)[:, : old.width])
        return wide


def _rows(plane: av.video.plane.VideoPlane) -> torch.Tensor:
    """Return a plane's memory, uint8 [H, line size]."""
    return torch.frombuffer(plane, dtype=torch.uint8).view(plane.height, plane.line_size)


@dataclass(frozen=True)
class Orientation:
    """How a stored frame becomes the one that is shown: rows for columns first, then the order of each reversed."""

    transposed: bool = False
    rows_reversed: bool = False
    columns_reversed: bool = False

    def turn(self, picture: np.ndarray) -> np.ndarray:
        """Return a picture [H, W, ...] as it is shown, a view."""
        picture = picture.swapaxes(0, 1) if self.transposed else picture
        return picture[:: -1 if self.rows_reversed else 1, :: -1 if self.columns_reversed else 1]


UPRIGHT = Orientation()


def orientation(frame: av.VideoFrame) -> Orientation:
    """Return how a frame is to be turned and mirrored, by its display matrix, to the nearest quarter."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return UPRIGHT
    # x' = a x + c y, y' = b x + d y; [a b u] [c d v] [x y w], as FFmpeg stores it.
    a, b, _, c, d = np.frombuffer(data, "<i4")[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, d < 0, a < 0)
    return Orientation(True, b < 0, c < 0)


def upright_hw(frame: av.VideoFrame) -> tuple[int, int]:
    """Return a decoded frame's height and width once it stands upright."""
    return (frame.width, frame.height) if orientation(frame).transposed else (frame.height, frame.width)


def shown_hw(frame: av.VideoFrame, pixel_aspect: Fraction | None) -> tuple[int, int]:
    """Return the height and width of a frame as it is shown, in square pixels.

    pixel_aspect: the width of a stored pixel over its height, as its stream states it; None or 0: 1. The width of the
    stored frame is stretched by it, as players do.
    """
    width = max(round(frame.width * (pixel_aspect or 1)), 1)
    return (width, frame.height) if orientation(frame).transposed else (frame.height, width)


class Resizer:
    """Resizes RGB frames, uint8 [H, W, 3], to uint8 [3, *size_hw], bicubic and antialiased.

    By default as products with banded matrices, in float32. torch's resize of bytes takes half as long, but
    clips between its two passes: up to 16 grey levels off at sharp edges. float_resize takes torch's own
    float32 resize, which the published code used: twice as slow, and the same but for 1 level in 0.1 % of the
    values. One object serves one thread: it keeps its working memory, as fresh memory costs more than the
    products.
    """

    def __init__(self, size_hw: tuple[int, int], float_resize: bool = False):
        self.size_hw = tuple(size_hw)
        self._float_resize = float_resize
        self._input_hw: tuple[int, int] | None = None

    def __call__(self, rgb: np.ndarray, out: torch.Tensor | None = None) -> torch.Tensor:
        """Resize one frame; returns `out`, a new tensor where it is not given."""
        if out is None:
            out = torch.empty((3, *self.size_hw), dtype=torch.uint8)
        frame = torch.from_numpy(rgb)
        if frame.shape[:2] == self.size_hw:
            return out.copy_(frame.permute(2, 0, 1))
        if self._float_resize:
            values = frame.permute(2, 0, 1)[None].float()
            resized = torch.nn.functional.interpolate(values, self.size_hw, mode="bicubic", antialias=True)[0]
            return out.copy_(resized.clamp_(0, 255).round_())
        return out.copy_(self._by_products(frame).permute(2, 0, 1))

    def _by_products(self, frame: torch.Tensor) -> torch.Tensor:
        """Return a frame [H, W, 3] resized, uint8 [*size_hw, 3], in memory that the next call uses again."""
        (height, width), (out_height, out_width) = frame.shape[:2], self.size_hw
        if self._input_hw != (height, width):
            self._input_hw = height, width
            self._rows = torch.empty(height, width * 3)
            self._shrunk = torch.empty(out_height, width * 3)
            self._resized = torch.empty(out_height, out_width * 3)
            self._bytes = torch.empty(*self.size_hw, 3, dtype=torch.uint8)
        self._rows.copy_(frame.view(height, width * 3))
        for out, taken, weights in _row_products(height, out_height):
            torch.mm(weights, self._rows[taken], out=self._shrunk[out])
        for out, taken, weights in _column_products(width, out_width):
            torch.mm(self._shrunk[:, taken], weights, out=self._resized[:, out])
        self._bytes.view(out_height, -1).copy_(self._resized.clamp_(0, 255).round_())
        return self._bytes


def resize_weights(n_in: int, n_out: int) -> torch.Tensor:
    """Return the weights float32 [n_out, n_in] of antialiased bicubic resizing along one side.

    Keys' cubic with a = -0.5 about each output pixel's centre, stretched where the side shrinks, as in Pillow
    (ImagingResample) and torch; the weights of an output pixel sum to 1.
    """
    scale = n_in / n_out
    centre = (np.arange(n_out)[:, None] + 0.5) * scale
    distance = np.abs(np.arange(n_in) + 0.5 - centre) / max(scale, 1.0)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return torch.from_numpy((weights / weights.sum(1, keepdims=True)).astype(np.float32))


@lru_cache(maxsize=16)
def _row_products(n_in: int, n_out: int) -> list[tuple[slice, slice, torch.Tensor]]:
    """Return, per block of output rows, (output rows, input rows that they need, weights [out, in])."""
    weights, products = resize_weights(n_in, n_out), []
    for first in range(0, n_out, BLOCK):
        block = weights[first : first + BLOCK]
        used = torch.nonzero(block.any(0))[:, 0]
        taken = slice(int(used[0]), int(used[-1]) + 1)
        products.append((slice(first, first + len(block)), taken, block[:, taken].contiguous()))
    return products


@lru_cache(maxsize=16)
def _column_products(n_in: int, n_out: int) -> list[tuple[slice, slice, torch.Tensor]]:
    """Return the same for columns of interleaved RGB: (output values, input values, weights [in * 3, out *
    3])."""
    return [
        (
            slice(out.start * 3, out.stop * 3),
            slice(taken.start * 3, taken.stop * 3),
            torch.kron(block.T.contiguous(), torch.eye(3)),
        )
        for out, taken, block in _row_products(n_in, n_out)
    ]
