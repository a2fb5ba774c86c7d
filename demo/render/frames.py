"""Frames on their way: made upright and H.264's format, drawn on, encoded each at its own time."""

import math
from fractions import Fraction

import av
from av.video.reformatter import VideoReformatter

from data.video.container import frame_ticks
from data.video.pixels import UPRIGHT, orientation
from demo.render.picture import Picture
from demo.render.planes import FORMAT, copied, draw

HELD_S = 0.5  # a frame that stays longer is repeated at the moments at which captions change
PRESET = "veryfast"  # x264's; "medium" takes three times as long for files a fifth smaller


class UprightFrames:
    """Makes decoded frames upright, of an even size, in FORMAT; all as large as the first one."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        """The frame itself where nothing is to be done."""
        if self._size is None:
            self._size = frame.width + frame.width % 2, frame.height + frame.height % 2
        turned = orientation(frame)
        if (frame.width, frame.height) != self._size or frame.format.name != FORMAT:
            made = self._reformatter.reformat(frame, *self._size, format=FORMAT)
            made.duration = frame.duration
            frame = made
        return copied(frame, turned) if turned != UPRIGHT else frame


class FrameWriter:
    """Encodes upright frames as H.264.

    first: one of them, for size and colours.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        source: av.VideoStream,
        first: av.VideoFrame,
        pixel_aspect: Fraction,
        picture: Picture,
        crf: int,
    ):
        self._container, self._picture, self._time_base = container, picture, source.time_base
        self._usual = frame_ticks(source)
        options = {"crf": str(crf), "preset": PRESET}
        self._stream = container.add_stream("libx264", rate=source.average_rate or 25, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = first.width, first.height, FORMAT
        self._stream.time_base = self._time_base
        coder = self._stream.codec_context
        coder.time_base, coder.sample_aspect_ratio = self._time_base, pixel_aspect
        coder.color_range, coder.colorspace = first.color_range, first.colorspace
        coder.color_primaries, coder.color_trc = first.color_primaries, first.color_trc
        self._last: av.VideoFrame | None = None
        self._tick = self._following = 0
        self.n_written = 0

    def write(self, frame: av.VideoFrame) -> float:
        """Encode a frame; returns its time in seconds of the source. One without a time follows the one before it."""
        tick = self._following if frame.pts is None else frame.pts
        if self._last is not None:
            tick = max(tick, self._tick + 1)
            self._repeat(tick)
        self._last, self._tick = frame, tick
        self._following = tick + (frame.duration or self._usual)
        self._encode(frame, tick, frame.duration)
        return float(tick * self._time_base)

    def finish(self, end_s: float) -> None:
        """Encode what is left; the last frame is on screen until end_s."""
        if self._last is not None:
            self._repeat(int(end_s / self._time_base))
        self._container.mux(self._stream.encode(None))

    def _repeat(self, until: int) -> None:
        """Show the last frame again whenever something on it changes before tick `until`, if it stays for long."""
        if (until - self._tick) * self._time_base <= HELD_S:
            return
        edges = self._picture.changes(float(self._tick * self._time_base), float(until * self._time_base))
        ticks = sorted({math.ceil(edge / float(self._time_base) - 1e-6) for edge in edges})
        ticks = [tick for tick in ticks if self._tick < tick < until]
        for tick, following in zip(ticks, [*ticks[1:], until], strict=True):
            self._encode(self._last, tick, following - tick)

    def _encode(self, frame: av.VideoFrame, tick: int, duration: int | None) -> None:
        drawn = self._picture.at(float(tick * self._time_base))
        if drawn:
            frame = copied(frame)
            draw(frame, drawn)
        frame.pts, frame.time_base, frame.duration = tick, self._time_base, duration or 0
        frame.pict_type = 0  # what kind it was in the source is not the encoder's business
        self._container.mux(self._stream.encode(frame))
        self.n_written += 1
