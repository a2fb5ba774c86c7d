"""A video read as it plays: frame after frame on a grid of 2 a second, in memory that does not grow."""

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import torch

from data.video.container import (
    VideoError,
    decode_packet,
    frame_ticks,
    from_keyframe,
    next_packet,
    nominal_ticks,
    open_video,
    video_stream,
)
from data.video.file_clock import FileClock
from data.video.frame_plan import FPS, FRAME_FACTOR, FrameTimes, VideoLimits, exact_seconds
from data.video.pixels import Resizer, RgbConverter, shown_hw

log = logging.getLogger(__name__)

SEEK_MARGIN_S = 2  # a keyframe is stored up to a few frames before the moment at which it is shown


@dataclass(frozen=True)
class TimedFrame:
    """A frame, uint8 [3, H, W], and its time in seconds from the start of the file or of the live source."""

    time_s: float
    frame: torch.Tensor


@dataclass(frozen=True)
class _Shown:
    """A decoded frame and when it is on screen: start and end in ticks, start_s in seconds; end32_s is its
    end as the published data has it."""

    frame: av.VideoFrame
    start: int
    end: int
    start_s: float
    end32_s: float


def live_frames(
    path: str | os.PathLike,
    *,
    limits: VideoLimits,
    frame_times: FrameTimes = "grid",
    start_s: float = 0.0,
    float_resize: bool = False,
) -> Iterator[TimedFrame]:
    """Yield the frames at start_s, start_s + 0.5, ... up to the video's end, resized, as decoding gets to
    them.

    frame_times: "grid" takes the frame on screen at each grid time; "end32" the first frame whose end, as
    float32, is not earlier. Times are the grid's. Grid times before the first frame have nothing on screen and
    are left out under "grid", but for the one less than a step before it, which takes it. Size:
    limits.max_pixels where it is set, else what a clip of the whole video would have. Raises VideoError where
    the file is missing, damaged or has no video, or holds nothing from start_s on.
    """
    with open_video(path) as container:
        stream = video_stream(container)
        stream.thread_type = "AUTO"
        choose = {"grid": _on_screen, "end32": _not_ended}[frame_times]
        to_frame = FrameMaker(path, limits, float_resize, _clip_length(container, stream, limits))
        n_yielded = 0
        for time_s, shown in choose(_shown_frames(container, stream, path, start_s), stream.time_base, start_s):
            n_yielded += 1
            yield TimedFrame(time_s, to_frame(shown.frame, shown.start_s, stream.sample_aspect_ratio))
        if not n_yielded:
            raise VideoError(f"{path}: holds no frame from {start_s:g} s on; start earlier, or check the file")


class FrameMaker:
    """Makes model frames of decoded ones; a frame shown at several times is converted once.

    All take the size that the first one gets in a clip of n_frames; without n_frames, in the longest clip.
    """

    def __init__(self, name: str | os.PathLike, limits: VideoLimits, float_resize: bool, n_frames: int | None = None):
        self._name, self._limits, self._float_resize = name, limits, float_resize
        self._n_frames = _even(limits.max_frames) if n_frames is None else n_frames
        self._to_rgb = RgbConverter()
        self._resize = self._last = self._resized = None

    def __call__(self, frame: av.VideoFrame, start_s: float, pixel_aspect: Fraction | None = None) -> torch.Tensor:
        """Return uint8 [3, H, W]. start_s: for messages.  pixel_aspect: width of a pixel over its height; None: 1.

        Raises VideoError for a damaged frame, a strange shape.
        """
        if frame is not self._last:
            self._last, self._resized = frame, self._convert(frame, start_s, pixel_aspect)
        return self._resized

    def _convert(self, frame: av.VideoFrame, start_s: float, pixel_aspect: Fraction | None) -> torch.Tensor:
        if frame.is_corrupt:
            raise VideoError(
                f"{self._name}: the frame at {start_s:g} s cannot be decoded: the file is truncated "
                f"or damaged there; get it again, or start after that moment"
            )
        if self._resize is None:
            self._resize = Resizer(self._model_size(frame, pixel_aspect), self._float_resize)
        return self._resize(self._to_rgb(frame))

    def _model_size(self, frame: av.VideoFrame, pixel_aspect: Fraction | None) -> tuple[int, int]:
        try:
            return self._limits.size_hw(*shown_hw(frame, pixel_aspect), self._n_frames)
        except ValueError as error:
            raise VideoError(f"{self._name}: its frames cannot be resized: {error}") from error


def _clip_length(container, stream, limits: VideoLimits) -> int:
    """Return how many frames a clip of the whole video would have, for the size of its frames."""
    duration_s = container.duration / av.time_base if container.duration else None
    if stream.duration:
        duration_s = float(stream.duration * stream.time_base)
    n_frames = min(math.ceil(duration_s * FPS), limits.max_frames) if duration_s else limits.max_frames
    return _even(n_frames)


def _even(n_frames: int) -> int:
    return max(n_frames + n_frames % FRAME_FACTOR, FRAME_FACTOR)


def _shown_frames(container, stream, path: str | os.PathLike, start_s: float) -> Iterator[_Shown]:
    """Decode one frame after the other, from a keyframe before start_s on."""
    clock, from_s = FileClock(container, path), start_s - SEEK_MARGIN_S
    if from_s > 0 and clock.can_seek(start_s):
        container.seek(math.floor(from_s / stream.time_base) + clock.zero_ticks(stream), stream=stream)
    packets = from_keyframe(clock.packets(stream), from_s)
    end, lasts, nominal = 0, frame_ticks(stream), nominal_ticks(stream)
    for frame in _decoded(packets, stream.codec_context, path):
        start = end if frame.pts is None else frame.pts
        end = start + (frame.duration or lasts)
        end32 = np.float32((end if nominal is None else start + nominal) * float(stream.time_base))
        yield _Shown(frame, start, end, float(start * stream.time_base), float(end32))


def _decoded(packets, decoder, path: str | os.PathLike) -> Iterator[av.VideoFrame]:
    cut_short = False
    while (packet := next_packet(packets, path)) is not None:
        cut_short = cut_short or packet.is_corrupt
        if packet.size:
            yield from decode_packet(decoder, packet, path)
    yield from decode_packet(decoder, None, path)
    if cut_short:
        log.warning("%s: the file is cut short or damaged: it ends earlier than its header says", path)


def _on_screen(frames: Iterator[_Shown], time_base: Fraction, start_s: float) -> Iterator[tuple[float, _Shown]]:
    """Yield each grid time with the frame on screen at it: the last one to start by then."""
    grid = _ticks(exact_seconds(start_s), time_base)
    time, tick = next(grid)
    step, previous = Fraction(1, FPS) / time_base, None
    for shown in frames:
        while tick < shown.start if previous is not None else tick + step <= shown.start:
            if previous is not None:
                yield float(time), previous
            time, tick = next(grid)
        previous = shown
    while previous is not None and tick < max(previous.end, previous.start + 1):
        yield float(time), previous
        time, tick = next(grid)


def _not_ended(frames: Iterator[_Shown], _: Fraction, start_s: float) -> Iterator[tuple[float, _Shown]]:
    """Yield each grid time with the first frame whose end as float32 is not earlier."""
    n_times, end, last = 0, -math.inf, None
    for last in frames:
        end = last.end32_s
        while start_s + n_times / FPS <= end:
            yield start_s + n_times / FPS, last
            n_times += 1
    if last is not None and start_s + n_times / FPS <= end + 1e-6:
        yield start_s + n_times / FPS, last


def _ticks(first: Fraction, time_base: Fraction) -> Iterator[tuple[Fraction, int]]:
    """Yield grid times without end, each with its time rounded down to ticks."""
    time = first
    while True:
        yield time, math.floor(time / time_base)
        time += Fraction(1, FPS)
