"""The sound of a rendered video: packets copied where an MP4 file takes them, else encoded again as AAC; or mixed with
speech, under which the original is lowered."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av
import numpy as np

from data.video.container import decode_packet
from demo.render.speech import RATE, SpeechLine

COPIED = {"aac", "ac3", "alac", "eac3", "mp3", "opus"}  # codecs that players read in MP4
LAYOUTS = {"mono", "stereo", "5.1", "5.1(side)"}  # that are encoded as they are; others become stereo
BITS = 160_000
LOWERED = 0.22  # of the original under speech: -13 dB
ATTACK_S, RELEASE_S = 0.25, 0.7
GAP_S = 0.05  # a hole in the original's times that is filled with silence, or an overlap that is cut
BLOCK = 9600


class CopiedSound:
    """Hands packets on as they are."""

    def __init__(self, container: av.container.OutputContainer, source: av.AudioStream):
        self._container, self._time_base = container, source.time_base
        self._stream = container.add_stream_from_template(source)
        self._last_dts: int | None = None

    def feed(self, packet: av.Packet) -> None:
        """Take a packet of the source; one that a damaged file has out of order is left out, as MP4 cannot hold it."""
        if not packet.size or packet.dts is None or (self._last_dts is not None and packet.dts <= self._last_dts):
            return
        self._last_dts = packet.dts
        packet.stream = self._stream
        self._container.mux(packet)

    def advance(self, time_s: float) -> None:
        """Do nothing: packets come by themselves."""

    def finish(self, end_s: float) -> None:
        """Do nothing: no packet is left."""


class MixedSound:
    """Decodes the source (None: silence), mixes lines of speech over it, and encodes.

    lines: in order of time, taken when the mix comes to them. Times in seconds of the source.
    """

    def __init__(
        self,
        container: av.container.OutputContainer,
        source: av.AudioStream | None,
        path,
        lines: Iterator[SpeechLine] | None = None,
    ):
        layout = source.layout.name if source is not None else "stereo"
        layout = layout if layout in (LAYOUTS if lines is None else ("mono", "stereo")) else "stereo"
        self._container, self._source, self._path = container, source, path
        self._stream = container.add_stream("aac", rate=RATE, layout=layout, bit_rate=BITS)
        self._n_channels, self._layout = self._stream.codec_context.channels, layout
        self._resampler = av.AudioResampler(format="fltp", layout=layout, rate=RATE)
        self._speech = SpeechTrack(lines) if lines is not None else None
        self._n_done = 0

    def feed(self, packet: av.Packet) -> None:
        """Take a packet of the source."""
        if packet.size:
            for frame in decode_packet(self._source.codec_context, packet, self._path):
                self._take(frame)

    def advance(self, time_s: float) -> None:
        """Let a video without sound have its silence, and speech, up to a time."""
        if self._source is None:
            self._silence(round(time_s * RATE))

    def finish(self, end_s: float) -> None:
        """Encode what is left, up to end_s and to the end of the sound."""
        if self._source is not None:
            for frame in decode_packet(self._source.codec_context, None, self._path):
                self._take(frame)
            for frame in self._resampler.resample(None):
                self._mix(frame.to_ndarray())
        if self._speech is not None:
            self._silence(round(end_s * RATE))
        self._container.mux(self._stream.encode(None))

    def _take(self, frame: av.AudioFrame) -> None:
        if frame.pts is not None:
            starts = round(frame.pts * frame.time_base * RATE)
            if abs(starts - self._n_done) > GAP_S * RATE:
                self._silence(starts)
        for resampled in self._resampler.resample(frame):
            self._mix(resampled.to_ndarray())

    def _silence(self, until: int) -> None:
        while self._n_done < until:
            self._mix(np.zeros((self._n_channels, min(BLOCK, until - self._n_done)), np.float32))

    def _mix(self, samples: np.ndarray) -> None:
        """Encode samples, float32 [channels, n], with the speech of their time."""
        if self._speech is not None:
            samples = self._speech.over(samples, self._n_done)
        if not samples.shape[1]:
            return
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=self._layout)
        frame.rate, frame.pts, frame.time_base = RATE, self._n_done, Fraction(1, RATE)
        self._n_done += samples.shape[1]
        self._container.mux(self._stream.encode(frame))


class SpeechTrack:
    """Lines of speech laid over blocks of sound that come in order."""

    def __init__(self, lines: Iterator[SpeechLine]):
        self._coming = lines
        self._next = next(self._coming, None)
        self._near: list[SpeechLine] = []

    def over(self, samples: np.ndarray, first: int) -> np.ndarray:
        """Samples [channels, n] from sample `first` on, lowered under speech, with the speech on every channel."""
        last = first + samples.shape[1]
        while self._next is not None and self._next.start - ATTACK_S * RATE < last:
            self._near.append(self._next)
            self._next = next(self._coming, None)
        self._near = [line for line in self._near if line.start + len(line.samples) + RELEASE_S * RATE > first]
        if not self._near:
            return samples
        mixed = samples * self._gain(first, last)
        for start, spoken in self._near:
            a, b = max(start, first), min(start + len(spoken), last)
            if a < b:
                mixed[:, a - first : b - first] += spoken[a - start : b - start]
        return np.clip(mixed, -1, 1)

    def _gain(self, first: int, last: int) -> np.ndarray:
        """How loud the original is: down before a line begins, up again behind it."""
        times, gain = np.arange(first, last, dtype=np.float64), np.ones(last - first)
        for start, spoken in self._near:
            end = start + len(spoken)
            distance = np.maximum((start - times) / (ATTACK_S * RATE), (times - end) / (RELEASE_S * RATE))
            gain = np.minimum(gain, LOWERED + (1 - LOWERED) * np.clip(distance, 0, 1))
        return gain.astype(np.float32)


def open_sounds(
    container: av.container.OutputContainer,
    sources: list[av.AudioStream],
    path,
    lines: Iterator[SpeechLine] | None,
) -> list[tuple[av.AudioStream | None, CopiedSound | MixedSound]]:
    """A sound for every track of the source; speech goes over the first of them, or over silence."""
    first = [(sources[0] if sources else None, lines)] if lines is not None else []
    rest = [(source, None) for source in sources[len(first) :]]
    return [
        (source, CopiedSound(container, source))
        if spoken is None and source.codec_context.codec.canonical_name in COPIED
        else (source, MixedSound(container, source, path, spoken))
        for source, spoken in chain(first, rest)
    ]
