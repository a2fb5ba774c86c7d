"""Video files opened, and their frames listed from packet headers alone where those can be trusted."""

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from data.video.file_clock import FileClock
from data.video.frame_plan import FrameTable
from data.video.mp4_boxes import is_encrypted, what_is_missing
from data.video.packets import PacketOrder
from utils.errors import UserError
from utils.file_kinds import VIDEO_MP4, file_kind, is_unfinished

log = logging.getLogger(__name__)

FFMPEG_ERRORS = (OSError, ValueError, av.FFmpegError)  # most of FFmpeg's are the first two, HTTP's are not

# Containers that state every frame's own time, and keep one frame in one packet. Transport streams may split
# a frame into two fields, AVI and raw streams state no presentation times: those are listed by decoding them
# once.
EXACT_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv"}
HIDDEN_FRAME_CODECS = {"vp8"}  # its packets may hold a frame that is never shown

# Where FFmpeg 4 took a frame's duration from the frame rate as soon as frames are stored out of order.
RATE_TIMED_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2"}


class VideoError(UserError):
    """A video, image or packed file that cannot give the frames asked for: path, cause and what to do."""


@dataclass(frozen=True)
class Listing:
    """What a file holds: its frames; its packets, or None where packets cannot be trusted; whether it is cut
    short."""

    table: FrameTable
    packets: PacketOrder | None
    cut_short: bool


def open_video(path: str | os.PathLike) -> av.container.InputContainer:
    """Open a local video file. Raises VideoError where it is missing, no file, or not a video that can be read."""
    path = Path(path)
    if not path.exists():
        raise VideoError(f"{path}: no such file; check the path and the folder that it is relative to")
    if not path.is_file():
        raise VideoError(f"{path}: not a file but a {'folder' if path.is_dir() else 'device'}; give a video file")
    try:
        _refuse_unplayable(path)
        # FFmpeg takes what stands before a colon for a protocol, but not in an absolute path.
        return open_container(os.path.abspath(path), path, options={"protocol_whitelist": "file"})
    except VideoError as error:  # a file cut off within its index seems to have no video
        missing = file_kind(path) is VIDEO_MP4 and what_is_missing(path)
        raise (VideoError(f"{path}: {missing}; get the file again") if missing else error) from None
    except FFMPEG_ERRORS as error:
        raise VideoError(f"{path}: cannot be opened as a video: {_why_not(path, error)}") from error


def _refuse_unplayable(path: Path) -> None:
    """Raise VideoError for what FFmpeg would read as something that it is not."""
    kind = file_kind(path)
    if kind and not kind.may_play:
        raise VideoError(f"{path}: {kind.instead_of('a video', 'give a video file')}")
    if kind is VIDEO_MP4 and is_encrypted(path):
        raise VideoError(f"{path}: its pictures are encrypted (DRM); only a copy without protection can be read")


def _why_not(path: Path, error: Exception) -> str:
    """What a file is that FFmpeg cannot open, or what it lacks, and what to do."""
    if isinstance(error, PermissionError):
        return f"{reason(error)}; check its permissions"
    kind = file_kind(path)
    if kind is VIDEO_MP4 and (missing := what_is_missing(path)):
        return f"{missing}; get the file again"
    if is_unfinished(path):
        return f"its name is that of a download in progress ({path.suffix}); let it finish"
    if kind and kind.remedy:
        return kind.instead_of("a video", "get it again")
    return f"{reason(error)}; it is truncated, damaged or no video"


def open_container(address, name: str | os.PathLike, **arguments) -> av.container.InputContainer:
    """Open what FFmpeg can read: an address (path, URL, device) or a file object, with the arguments of av.open.

    name: for messages. Raises VideoError where it has no video, and one of FFMPEG_ERRORS. What it reads may
    come from anyone: pass the option "protocol_whitelist", or a playlist opens other files and servers.
    """
    container = av.open(address, metadata_errors="replace", **arguments)
    if not any(is_moving(stream) for stream in container.streams.video):
        container.close()
        raise VideoError(f"{name}: has no video stream; it may hold sound only")
    return container


def video_stream(container: av.container.InputContainer) -> av.video.stream.VideoStream:
    """Return the stream of the film, as FFmpeg's tools choose it: the default one, then that of the most pixels."""
    return max(filter(is_moving, container.streams.video), key=lambda s: (_is_default(s), s.width * s.height))


def sound_stream(container: av.container.InputContainer) -> av.audio.stream.AudioStream | None:
    """Return the stream of the film's sound, the default one, then that of the most channels; None without any."""
    streams = [stream for stream in container.streams.audio if stream.codec_context is not None]
    return max(streams, key=lambda s: (_is_default(s), s.codec_context.channels), default=None)


def _is_default(stream: av.stream.Stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.default)


def is_moving(stream: av.video.stream.VideoStream) -> bool:
    """Say whether a stream is a film, and one that this FFmpeg can decode."""
    attached = av.stream.Disposition.attached_pic
    return not stream.disposition & attached and stream.codec_context is not None


def reason(error: Exception) -> str:
    """Return FFmpeg's words for an error, without the path."""
    return getattr(error, "strerror", None) or str(error)


def list_frames(path: str | os.PathLike) -> Listing:
    """List a file's frames in presentation order. Raises VideoError where there is none."""
    with open_video(path) as container:
        return list_opened(container, path)


def list_opened(container: av.container.InputContainer, path: str | os.PathLike) -> Listing:
    """List the frames of a file that was just opened, as list_frames; afterwards the container stands at its end."""
    stream = video_stream(container)
    exact = container.format.name in EXACT_CONTAINERS and stream.codec_context.name not in HIDDEN_FRAME_CODECS
    clock = FileClock(container, path)
    rows, cut_short = _read_packets(clock, stream)
    cut_short = cut_short or _index_passes_end(stream, path)
    exact = exact and not clock.n_jumps  # after seeking it is not known which jumps lie before
    listing = _from_packets(rows, stream, cut_short) if exact and rows else None
    listing = listing or _from_frames(path, cut_short)
    if cut_short:
        log.warning("%s: the file is cut short or damaged: frames after %g s are missing", path, listing.table.last_s)
    return listing


def decode_all(container: av.container.InputContainer, path: str | os.PathLike) -> Iterator[av.VideoFrame]:
    """Decode a file from its start, frame by frame; damaged packets are logged and left out."""
    stream = video_stream(container)
    packets = FileClock(container, path).packets(stream)
    while (packet := next_packet(packets, path)) is not None:
        if packet.size:
            yield from decode_packet(stream.codec_context, packet, path)
    yield from decode_packet(stream.codec_context, None, path)


def next_packet(packets: Iterator[av.Packet], path: str | os.PathLike) -> av.Packet | None:
    """Return the next packet, or None at the file's end, also where damage ends it early."""
    try:
        return next(packets, None)
    except FFMPEG_ERRORS as error:
        log.warning("%s: reading stopped early: %s", path, reason(error))
        return None


def from_keyframe(packets: Iterator[av.Packet], time_s: float) -> Iterator[av.Packet]:
    """Yield packets from the last keyframe before time_s on; those before need not be decoded."""
    held: list[av.Packet] = []
    for packet in packets:
        at_s = None if packet.pts is None else float(packet.pts * packet.time_base)
        if packet.is_keyframe and at_s is not None and at_s <= time_s:
            held.clear()
        held.append(packet)
        if at_s is None or at_s > time_s:
            yield from held
            yield from packets
            return
    yield from held


def decode_packet(decoder, packet: av.Packet | None, path: str | os.PathLike) -> list[av.VideoFrame]:
    """Send a packet to a decoder, None to drain it; returns the frames that come out.

    A damaged packet is logged and gives none: what a decoder guesses of a cut-off packet is not the frame.
    """
    if packet is not None and packet.is_corrupt:
        return []
    try:
        return decoder.decode(packet)
    except FFMPEG_ERRORS as error:
        has_time = packet is not None and packet.pts is not None
        when = f" at {float(packet.pts * packet.time_base):g} s" if has_time else ""
        log.warning("%s: a damaged packet%s was left out: %s", path, when, reason(error))
        return []


def _read_packets(clock: FileClock, stream) -> tuple[list[tuple], bool]:
    """Return (pts, dts, duration, keyframe, discard) of every whole packet, and whether a packet was cut
    off."""
    rows, cut_short, packets = [], False, clock.packets(stream)
    try:
        for packet in packets:
            cut_short = cut_short or packet.is_corrupt
            if packet.size and not packet.is_corrupt:
                rows.append((packet.pts, packet.dts, packet.duration, packet.is_keyframe, packet.is_discard))
    except (OSError, ValueError):
        cut_short = True
    return rows, cut_short


def _index_passes_end(stream, path: str | os.PathLike) -> bool:
    """Say whether the file's own index names packets behind its last byte."""
    entries = getattr(stream, "index_entries", None)  # PyAV 14 and later
    return bool(entries) and entries[-1].pos + entries[-1].size > os.path.getsize(path)


def _from_packets(rows: list[tuple], stream, cut_short: bool) -> Listing | None:
    """Make the tables from packet headers, or return None where their times do not name each frame."""
    if any(row[0] is None for row in rows) or len({row[0] for row in rows}) < len(rows):
        return None
    pts = np.array([row[0] for row in rows], np.int64)
    dts = np.array([row[0] if row[1] is None else row[1] for row in rows], np.int64)
    durations = np.array([row[2] or 0 for row in rows], np.int64)
    keyframe, discard = (np.array([row[column] for row in rows], bool) for column in (3, 4))
    shown = np.flatnonzero(~discard)
    if not len(shown):
        return None
    order = shown[np.argsort(pts[shown], kind="stable")]
    frame = np.full(len(rows), -1, np.int64)
    frame[order] = np.arange(len(order))
    table = _table(pts[order], durations[order], keyframe[order], stream)
    return Listing(table, PacketOrder(pts, dts, frame, keyframe), cut_short)


def _from_frames(path: str | os.PathLike, cut_short: bool) -> Listing:
    """Make the table by decoding the file once, holding one frame at a time."""
    starts, durations, keyframe = [], [], []
    with open_video(path) as container:
        stream = video_stream(container)
        for frame in decode_all(container, path):
            starts.append(start_tick(frame, starts, durations, stream))
            durations.append(frame.duration or 0)
            keyframe.append(frame.key_frame)
        if not starts:
            raise VideoError(f"{path}: no frame can be decoded; the file is truncated or damaged")
        ordered = np.maximum.accumulate(np.array(starts, np.int64))
        if n_back := int((ordered != starts).sum()):
            log.warning("%s: %d frames come earlier than ones before them, and are not shown", path, n_back)
        return Listing(_table(ordered, np.array(durations), np.array(keyframe), stream), None, cut_short)


def start_tick(frame: av.VideoFrame, starts: list[int], durations: list[int], stream) -> int:
    """Return a decoded frame's start; one without a time follows the frame before it."""
    if frame.pts is not None:
        return frame.pts
    return starts[-1] + (durations[-1] or frame_ticks(stream)) if starts else 0


def frame_ticks(stream) -> int:
    """Return how many ticks a frame lasts by the frame rate (25 a second where the file states none)."""
    rate = stream.base_rate or stream.average_rate or 25
    return max(math.floor(1 / (rate * stream.time_base)), 1)


def nominal_ticks(stream) -> int | None:
    """Return how long a frame lasts for the FFmpeg of the published data, None where the file says it."""
    container = stream.container.format.name
    timed_by_rate = container in RATE_TIMED_CONTAINERS and stream.codec_context.has_b_frames
    return frame_ticks(stream) if timed_by_rate else None


def _table(starts: np.ndarray, durations: np.ndarray, keyframe: np.ndarray, stream) -> FrameTable:
    """Put the columns together; a frame without a duration lasts until the next one."""
    gaps = np.append(np.diff(starts), frame_ticks(stream))
    durations = np.where(durations > 0, durations, gaps)
    ends = starts + durations
    return FrameTable(starts, ends, stream.time_base, keyframe.astype(bool), nominal_ticks(stream))
