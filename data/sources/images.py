"""A folder of images as a source: one after the other, in natural order of their names."""

import math
import threading
from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from data.sources.source import Source
from data.video.container import VideoError
from data.video.frame_folder import list_images
from data.video.frame_plan import FPS, FRAME_FACTOR, VideoLimits, exact_seconds
from data.video.images import frame_size, read_picture
from data.video.live import TimedFrame
from data.video.pixels import Resizer


class ImagesSource(Source):
    """The images of a folder, `images_fps` of them a second; all take the size that the first one gets.

    Raises VideoError where there is none, where one cannot be read, and where start_s is behind the last.
    """

    def __init__(
        self, folder: str, *, limits: VideoLimits, float_resize: bool, start_s: float, images_fps: float = float(FPS)
    ):
        super().__init__(folder)
        self._limits, self._float_resize, self._start_s = limits, float_resize, start_s
        self._fps = exact_seconds(images_fps)
        self._paths = list_images(folder)
        self._closing = threading.Event()

    def __iter__(self) -> Iterator[TimedFrame]:
        first = exact_seconds(self._start_s)
        n_times = math.ceil((len(self._paths) / self._fps - first) * FPS)
        if n_times <= 0:
            raise VideoError(
                f"{self.name}: its {len(self._paths)} images last {float(len(self._paths) / self._fps):g} s; "
                f"start earlier than {self._start_s:g} s"
            )
        resize, shown, frame = None, None, None
        for time in (first + Fraction(n, FPS) for n in range(n_times)):
            if self._closing.is_set():
                return
            index = math.floor(time * self._fps)
            if index != shown:
                rgb = read_picture(self._paths[index])
                resize = resize or Resizer(self._size(rgb, n_times), self._float_resize)
                shown, frame = index, resize(rgb)
            yield TimedFrame(float(time), frame)

    def close(self) -> None:
        """End the iteration before the next image."""
        self._closing.set()

    def _size(self, rgb: np.ndarray, n_times: int) -> tuple[int, int]:
        n_frames = min(n_times + n_times % FRAME_FACTOR, self._limits.max_frames)
        return frame_size(rgb, n_frames, self._limits, self.name)
