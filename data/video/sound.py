"""The sound of a video as one row of samples on the video's own clock. Pictures are data/video/clip.py's.

Files start their sound late or early against the pictures, and leave gaps; FFmpeg's resampler fills these with silence
and cuts what comes too early, so sample i is always heard at start_s + i / rate. Sound that changes its layout or rate
on the way is read on.
"""

import os

import av
import numpy as np

from data.video.container import decode_packet, from_keyframe, next_packet, open_video, sound_stream
from data.video.file_clock import FileClock

RATE = 16000  # samples a second; what speech models read
LEAD_S = 1.0  # decoded before a window: the resampler's and the codec's run-in


def read_sound(
    path: str | os.PathLike, start_s: float = 0.0, end_s: float | None = None, rate: int = RATE
) -> np.ndarray | None:
    """Read the sound of a video file from start_s to end_s (default: to its end), mixed to one channel.

    Returns float32 [n] between -1 and 1, or None where the file has no sound. With end_s, n is exactly
    round((end_s - start_s) * rate): silence follows where the sound ends earlier. Damaged packets are logged and are
    silence. Raises VideoError where the file is missing or no video.
    """
    with open_video(path) as container:
        stream = sound_stream(container)
        if stream is None:
            return None
        clock, from_s = FileClock(container, path), start_s - LEAD_S
        if from_s > 0 and clock.can_seek(start_s):
            container.seek(int(from_s / stream.time_base) + clock.zero_ticks(stream), stream=stream)
        samples = _decode(from_keyframe(clock.packets(stream), from_s), stream, path, start_s, end_s, rate)
    if end_s is None:
        return samples
    n_samples = round((end_s - start_s) * rate)
    return np.pad(samples[:n_samples], (0, max(0, n_samples - len(samples))))


def _decode(packets, stream, path: str | os.PathLike, start_s: float, end_s: float | None, rate: int) -> np.ndarray:
    """Samples from start_s on, of the packets up to end_s."""
    pieces, n_samples, resampler = [], 0, None

    def keep(more: list[np.ndarray]) -> None:
        nonlocal n_samples
        pieces.extend(more)
        n_samples += sum(map(len, more))

    while (packet := next_packet(packets, path)) is not None:
        late = end_s is not None and packet.pts is not None and packet.pts * packet.time_base > end_s + LEAD_S
        for frame in decode_packet(stream.codec_context, packet if packet.size and not late else None, path):
            if resampler is None or not resampler.takes(frame):
                keep(resampler.push(None) if resampler else [])
                resampler = _Resampler(frame, stream.time_base, start_s + n_samples / rate, rate)
            keep(resampler.push(frame))
        if late or not packet.size:
            break
    keep(resampler.push(None) if resampler else [])
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


class _Resampler:
    """FFmpeg's aresample, which keeps to the frames' times. It takes frames of one rate, format and layout."""

    def __init__(self, frame: av.AudioFrame, time_base, start_s: float, rate: int):
        self._graph, self._takes = av.filter.Graph(), _form(frame)
        source = self._graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format, layout=frame.layout, time_base=time_base
        )
        # async=1 fills gaps and cuts overlaps, without stretching; first_pts, in samples of the input, does so at the
        # start.
        first = round(start_s * frame.sample_rate)
        steps = [
            source,
            self._graph.add("aresample", f"{rate}:async=1:first_pts={first}"),
            self._graph.add("aformat", f"sample_fmts=flt:channel_layouts=mono:sample_rates={rate}"),
            self._graph.add("abuffersink"),
        ]
        self._graph.link_nodes(*steps).configure()

    def takes(self, frame: av.AudioFrame) -> bool:
        """Say whether a frame is like the first one."""
        return _form(frame) == self._takes

    def push(self, frame: av.AudioFrame | None) -> list[np.ndarray]:
        """Give a decoded frame, None at the end; returns what comes out."""
        self._graph.push(frame)
        pieces = []
        while True:
            try:
                pieces.append(self._graph.pull().to_ndarray().reshape(-1))
            except (av.BlockingIOError, av.EOFError):
                return pieces


def _form(frame: av.AudioFrame) -> tuple[int, str, str]:
    return frame.sample_rate, frame.format.name, frame.layout.name
