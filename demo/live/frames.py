"""JPEGs of clients -> model frames. Whoever sends them may be hostile: size and form are checked before decoding."""

import io

from PIL import Image
from torch import Tensor

from data.video.frame_plan import VideoLimits
from data.video.images import decode_image
from data.video.pixels import Resizer
from demo.live.api_error import ApiError

MAX_SCANS = 64  # a progressive JPEG has about 10; one of thousands decodes for minutes
SCAN_MARKER = b"\xff\xda"


class FrameReader:
    """Decodes and resizes the JPEGs of one session; all take the size that the first one gets.

    limits: with max_pixels. max_bytes, max_pixels: of a JPEG as it comes. One object serves one thread at a time.
    """

    def __init__(self, limits: VideoLimits, max_bytes: int, max_pixels: int):
        self._limits, self._max_bytes, self._max_pixels = limits, max_bytes, max_pixels
        self._resize: Resizer | None = None

    def read(self, encoded: bytes) -> Tensor:
        """The frame, uint8 [3, H, W]. Raises ApiError for bytes that are none, or too many."""
        self._check(encoded)
        try:
            rgb = decode_image(encoded)
            resize = self._resize or Resizer(self._limits.size_hw(*rgb.shape[:2], self._limits.max_frames))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise _no_jpeg(encoded, error) from None
        self._resize = resize
        return resize(rgb)

    def _check(self, encoded: bytes) -> None:
        if len(encoded) > self._max_bytes:
            raise ApiError(
                413, f"a frame of {len(encoded)} bytes", limit=self._max_bytes,
                next_step="send it smaller or compress it more; the model looks at about 640x360 pixels",
            )  # fmt: skip
        try:
            with Image.open(io.BytesIO(encoded), formats=("JPEG",)) as image:  # reads the header only
                width, height = image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise _no_jpeg(encoded, error) from None
        if width * height > self._max_pixels:
            raise ApiError(
                413, f"a frame of {width}x{height} pixels", limit=self._max_pixels,
                next_step="make it smaller before sending it; the model looks at about 640x360 pixels",
            )  # fmt: skip
        if (n_scans := encoded.count(SCAN_MARKER)) > MAX_SCANS:
            raise ApiError(
                422, f"a JPEG of {n_scans} scans", limit=MAX_SCANS, cause="it was made to take long to decode",
                next_step="send baseline JPEGs",
            )  # fmt: skip


def _no_jpeg(encoded: bytes, error: Exception) -> ApiError:
    cause = "it is cut short, damaged or of another format" if encoded else "the body is empty"
    reason = "no image" if isinstance(error, Image.UnidentifiedImageError) else str(error)
    return ApiError(
        422, f"{len(encoded)} bytes cannot be read as a JPEG: {reason}", cause=cause,
        next_step="send one whole JPEG (image/jpeg); the session goes on without this frame",
    )  # fmt: skip
