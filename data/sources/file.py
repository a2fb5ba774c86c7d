"""A video file as a source: frames come as fast as they are asked for; the reader keeps the pace (a Clock)."""

import threading
from collections.abc import Iterator

from data.sources.source import Source
from data.video.ahead import read_ahead
from data.video.frame_plan import FrameTimes, VideoLimits
from data.video.live import TimedFrame, live_frames

AHEAD_FRAMES = 8  # decoded and resized while the model speaks


class FileSource(Source):
    """The frames of a video file from start_s on (data/video/live.py has the rules)."""

    def __init__(self, path: str, *, limits: VideoLimits, frame_times: FrameTimes, float_resize: bool, start_s: float):
        super().__init__(path)
        self._frames = live_frames(
            path, limits=limits, frame_times=frame_times, float_resize=float_resize, start_s=start_s
        )
        self._closing = threading.Event()

    def __iter__(self) -> Iterator[TimedFrame]:
        for frame in read_ahead(self._frames, AHEAD_FRAMES):
            if self._closing.is_set():
                return
            yield frame

    def close(self) -> None:
        """End the iteration before the next frame."""
        self._closing.set()
