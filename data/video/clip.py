"""The one video reader: a file to frames with times, as whole clips here, frame after frame in data/video/live.py.

Frames come out as players show them: upright, in square pixels, in RGB, as FFmpeg's own conversion makes them (HDR is
tone-mapped, data/video/hdr.py). They are resized as they come (bicubic, antialiased), so memory holds the resized clip
and a few full-size frames.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Literal

import av
import numpy as np
import torch

from data.video.container import (
    Listing,
    VideoError,
    decode_all,
    decode_packet,
    list_opened,
    next_packet,
    open_video,
    video_stream,
)
from data.video.file_clock import FileClock
from data.video.frame_plan import Clip, FramePlan, FrameTable, FrameTimes, VideoLimits, plan_question, plan_stream
from data.video.images import read_image, read_packed
from data.video.live import TimedFrame, live_frames
from data.video.packets import PacketSpan, packet_spans
from data.video.pixels import Resizer, RgbConverter, shown_hw, upright_hw

__all__ = [
    "Clip",
    "FrameTable",
    "TimedFrame",
    "VideoError",
    "VideoFile",
    "live_frames",
    "read_clip",
    "read_image",
    "read_packed",
]

Rule = Literal["stream", "question"]

NOWHERE = -1  # in place of a packet's number: from here every packet is reached by seeking
SEEK_PACKETS = 64  # reading past this many packets costs about as much as a seek
# Decoders that leave out exactly what no other frame refers to. HEVC is not among them: a frame that its own
# temporal layer does not refer to may still be needed by a higher layer.
SKIPPING_CODECS = {"h264", "mpeg4", "mpeg2video"}


class VideoFile(AbstractContextManager):
    """A video file whose frames are read by their index in presentation order.

    path: a local file.  n_threads: of the decoder; 0 lets FFmpeg choose.
    Raises VideoError where the file is missing, damaged, or has no video.
    """

    def __init__(self, path: str | os.PathLike, n_threads: int = 1):
        self.path = path
        self._n_threads = n_threads
        self._to_rgb = RgbConverter()
        self._open()

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    @cached_property
    def listing(self) -> Listing:
        """The file's frames and packets."""
        listing = list_opened(self._container, self.path)
        self._next = NOWHERE
        if listing.cut_short:  # what a demuxer does after an error is not known
            self.close()
            self._open()
        return listing

    @property
    def table(self) -> FrameTable:
        """The file's frames in presentation order."""
        return self.listing.table

    @property
    def average_fps(self) -> float:
        """Frames a second as the container states it, else the mean over the file."""
        rate = self._stream.average_rate
        return float(rate) if rate else self.table.mean_fps

    @cached_property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the first frame as it is shown: upright, in square pixels."""
        if self.listing.packets is None:
            with open_video(self.path) as container:
                frame = next(decode_all(container, self.path), None)
        else:
            frame = next(self._decode(PacketSpan(0, len(self.listing.packets.pts) - 1, []), None), None)
        if frame is not None:
            return shown_hw(frame, self._stream.sample_aspect_ratio)
        raise VideoError(f"{self.path}: no frame can be decoded; the file is truncated or damaged")

    def clip(
        self,
        start_s: float | None = None,
        end_s: float | None = None,
        *,
        limits: VideoLimits,
        rule: Rule = "stream",
        frame_times: FrameTimes = "grid",
        float_resize: bool = False,
    ) -> Clip:
        """Read a window, resized for the model: `read_clip` of a file that is open, for several windows of it."""
        _check_held(self, end_s)
        try:
            plan = _plan(self, start_s, end_s, limits, rule, frame_times)
            size = limits.size_hw(*self.size_hw, len(plan))
        except ValueError as error:
            raise VideoError(f"{self.path}: {error}; correct the window or leave out the video") from error
        return Clip(self.read(plan.indices, size, float_resize), plan.times_s, plan)

    def read(
        self, indices: np.ndarray, size_hw: tuple[int, int] | None = None, float_resize: bool = False
    ) -> torch.Tensor:
        """Read frames by index, in any order, repeats allowed.

        Returns uint8 [n, 3, H, W]: resized to size_hw, or as large as the file's first frame. float_resize
        resizes through float32, as the published code did. Raises VideoError for a frame that cannot be
        decoded, IndexError for an index outside the table.
        """
        wanted, first, which = np.unique(np.asarray(indices, np.int64), return_index=True, return_inverse=True)
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < len(self.table):
            raise IndexError(f"{self.path}: frames {wanted[0]} to {wanted[-1]} asked of {len(self.table)}")
        height, width = size_hw or self.size_hw
        # NumPy asks for huge pages, torch does not: memory that is filled once costs half as much.
        frames = torch.from_numpy(np.empty((len(which), 3, height, width), np.uint8))
        position = dict(zip(wanted.tolist(), first.tolist(), strict=True))
        resize = Resizer((height, width), float_resize)
        for index, frame in self._frames(wanted):
            out = frames[position[index]]
            if upright_hw(frame) == (height, width):
                self._to_rgb.fill(out, frame)
            else:
                resize(self._to_rgb(frame), out=out)
        for again in np.flatnonzero(first[which] != np.arange(len(which))).tolist():
            frames[again] = frames[int(first[which[again]])]
        return frames

    def _frames(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield (index, decoded frame) for sorted, distinct frame indices."""
        if self.listing.packets is None:
            yield from self._frames_by_count(wanted)
            return
        for span in packet_spans(self.listing.packets, wanted):
            yield from self._frames_of(span)

    def _frames_of(self, span: PacketSpan) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode one stretch of packets; frames that it fails to give are decoded from the start."""
        missing = {int(self.table.start_ticks[index]): index for index in span.wanted}
        keep = set(missing) if self._stream.codec_context.name in SKIPPING_CODECS else None
        for attempt, kept in ((span, keep), (PacketSpan(0, span.last, span.wanted), None)):
            for frame in self._decode(attempt, kept):
                if frame.pts in missing and not frame.is_corrupt:
                    yield missing.pop(frame.pts), frame
            if not missing:
                return
        raise self._undecodable(min(missing))

    def _decode(self, span: PacketSpan, keep: set[int] | None) -> Iterator[av.VideoFrame]:
        """Send the packets first..last of a span to the decoder, in decoding order, and drain it.

        keep: times of the frames that are needed; others that no frame refers to are skipped. None keeps all.
        """
        self._go_to(span.first)
        decoder = self._stream.codec_context
        decoder.flush_buffers()
        while self._next <= span.last and (packet := next_packet(self._packets, self.path)) is not None:
            if not packet.size or packet.is_corrupt:  # not in the listing
                continue
            self._next += 1
            if self._next > span.first:
                decoder.skip_frame = "DEFAULT" if keep is None or packet.pts in keep else "NONREF"
                yield from decode_packet(decoder, packet, self.path)
        yield from decode_packet(decoder, None, self.path)

    def _go_to(self, place: int) -> None:
        """Make the packet at `place` in decoding order, or one shortly before it, the next to be read."""
        if self._next != NOWHERE and self._next <= place <= self._next + SEEK_PACKETS:
            return
        try:
            self._seek(place)
        except (OSError, ValueError):  # a file in which FFmpeg cannot seek is read from its start
            self._next = place + 1
        if self._next > place:
            self.close()
            self._open()

    def _seek(self, place: int) -> None:
        """Seek to a packet and find out from the first packet that comes where that has led."""
        packets = self.listing.packets
        tick = int(min(packets.dts[place], packets.pts[place]))
        self._container.seek(tick + self._clock.zero_ticks(self._stream), stream=self._stream)
        demuxed = self._clock.packets(self._stream)
        first = next(demuxed, None)
        landed = [] if first is None or first.pts is None else np.flatnonzero(packets.pts == first.pts)
        if not len(landed):
            raise ValueError(f"{self.path}: after seeking to tick {tick}, a packet that is not in the listing")
        self._packets = itertools.chain([first], demuxed)
        self._next = int(landed[0])

    def _frames_by_count(self, wanted: np.ndarray) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode from the start and count, for files whose packets do not name their frames."""
        missing = {int(index) for index in wanted}
        with open_video(self.path) as container:
            for index, frame in enumerate(decode_all(container, self.path)):
                if index in missing and not frame.is_corrupt:
                    missing.remove(index)
                    yield index, frame
                if not missing:
                    return
        raise self._undecodable(int(self.table.start_ticks[min(missing)]))

    def _undecodable(self, tick: int) -> VideoError:
        return VideoError(
            f"{self.path}: the frame at {float(tick * self.table.time_base):g} s cannot be decoded: the file "
            f"is truncated or damaged there; get it again, or choose a window without that moment"
        )

    def _open(self) -> None:
        self._container = open_video(self.path)
        self._stream = video_stream(self._container)
        self._stream.codec_context.thread_count = self._n_threads
        self._stream.thread_type = "NONE" if self._n_threads == 1 else "AUTO"
        self._clock = FileClock(self._container, self.path)
        self._packets = self._clock.packets(self._stream)
        self._next = 0  # place in decoding order of the packet that is read next


def read_clip(
    path: str | os.PathLike,
    start_s: float | None = None,
    end_s: float | None = None,
    *,
    limits: VideoLimits,
    rule: Rule = "stream",
    frame_times: FrameTimes = "grid",
    float_resize: bool = False,
    n_threads: int = 1,
) -> Clip:
    """Read the frames of a window of a video, resized for the model.

    start_s, end_s: the window in file time, both ends inside; None leaves a side open.
    rule: "stream" for 2 frames a second, "question" for frames spread evenly over the window.
    frame_times: what a frame's time is (data/video/frame_plan.py).
    float_resize: resize through float32, as the published code did.
    Returns a Clip of frames uint8 [n, 3, H, W], n even. Raises VideoError where the file is missing, damaged
    or has no video, where the window holds no frame, or asks for frames that a file cut short no longer has.
    """
    with VideoFile(path, n_threads) as video:
        return video.clip(start_s, end_s, limits=limits, rule=rule, frame_times=frame_times, float_resize=float_resize)


def _plan(
    video: VideoFile,
    start_s: float | None,
    end_s: float | None,
    limits: VideoLimits,
    rule: Rule,
    frame_times: FrameTimes,
) -> FramePlan:
    if rule == "question":
        return plan_question(video.table, start_s, end_s, limits, frame_times, video.average_fps)
    if rule == "stream":
        return plan_stream(video.table, start_s, end_s, limits, frame_times)
    raise TypeError(f"rule is {rule!r}; it is 'stream' or 'question'")


def _check_held(video: VideoFile, end_s: float | None) -> None:
    """Refuse a window that asks for what a file cut short no longer holds, instead of giving a shorter
    clip."""
    if end_s is not None and video.listing.cut_short and end_s > video.table.last_s:
        raise VideoError(
            f"{video.path}: the file is cut short: it holds frames up to {video.table.last_s:g} s, and the "
            f"window asks for {end_s:g} s; get it again, or end the window earlier"
        )
