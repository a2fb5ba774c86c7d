"""The clock of a file: seconds from the container's start, as players, FFmpeg's tools and captions count them.

Packets carry other numbers: a transport stream begins where its recorder's clock stood, begins anew where two files
were joined, and jumps where a sender's clock was set. FFmpeg undoes the wrap of 33-bit clocks; the rest is done here,
packet by packet in the order of the file, for picture and sound alike:

    start   container.start_time becomes 0. Where only the sound's run-in lies before 0 (Opus in WebM), 0 stays 0.
    back    a packet that comes earlier than what its stream has shown begins a new stretch, where the pictures had got
    ahead   so does one that comes more than GAP_S after all that the file holds, in containers whose clock may jump

A stretch moves all streams by the same time, so picture and sound stay together. Each is logged.
"""

import logging
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import av

log = logging.getLogger(__name__)

GAP_S = 10.0  # FFmpeg's own threshold for such clocks (-dts_delta_threshold)
BACK_S = 0.08  # how far keyframes of one stretch may lie behind what was shown: what senders' clocks jitter
REORDER_S = 1.0  # how far other pictures, by their decoding times, and sound may
N_TRIED = 4  # stretches that a packet may belong to: those of before come back after a single wrong number
N_HELD = 3  # packets of a stream that FFmpeg may call damaged because the next file's came instead of more of theirs

# Containers whose packets state a sender's clock. In others a pause is the author's, and packets lie in order.
JUMPING = {"mpegts", "mpeg", "hls", "flv", "ogg"}
RESTARTING = JUMPING | {"matroska,webm"}


@dataclass
class _StreamState:
    """Where a stream has got to: its stretch, its last decoding time, and the end of what it has shown, in seconds."""

    stretch: int
    dts_s: float
    shown_s: float
    end_s: float


class FileClock:
    """Gives the packets of an open file with times on the file's clock. One object reads from one place on.

    name: of the file, for messages.
    """

    def __init__(self, container: av.container.InputContainer, name: str | os.PathLike = ""):
        self._container, self._name = container, name
        self.zero_s = zero_s(container)
        self.may_jump, self._may_restart = (container.format.name in names for names in (JUMPING, RESTARTING))
        self._stretches = [-self.zero_s]  # what each adds to its packets' times
        self._states: dict[int, _StreamState] = {}
        self._end_s = 0.0  # of all that was read

    @property
    def n_jumps(self) -> int:
        """How often the file's own clock jumped in what was read."""
        return len(self._stretches) - 1

    def can_seek(self, time_s: float) -> bool:
        """Say whether seeking to a second leads there: a jump that was passed over would not be known."""
        duration = self._container.duration
        return not self.may_jump and (duration is None or time_s * av.time_base < duration)

    def zero_ticks(self, stream: av.stream.Stream) -> int:
        """The file's start in a stream's own ticks: what seeking must add."""
        return round(self.zero_s / stream.time_base)

    def packets(self, *streams: av.stream.Stream) -> Iterator[av.Packet]:
        """Yield the packets of these streams from where the file stands; empty ones at its end, to drain decoders."""
        if not self._may_restart:
            yield from self._shifted(self._container.demux(*streams))
            return
        wanted = {stream.index for stream in streams}
        # All streams are read: they tell a jump from a pause of one, and a stretch is put behind the longest.
        timed = [*self._container.streams.video, *self._container.streams.audio]
        for packet in self._placed(self._container.demux(*timed)):
            if packet.stream.index in wanted:
                yield packet

    def _shifted(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        for packet in packets:
            if self.zero_s:
                _move(packet, -self.zero_s)
            yield packet

    def _placed(self, packets: Iterator[av.Packet]) -> Iterator[av.Packet]:
        """Place packets. FFmpeg calls a packet damaged when its stream's next one is of another file: where that can
        be, before a jump or a keyframe, the mark is taken away."""
        held: deque[av.Packet] = deque()
        for packet in packets:
            jumps = packet.size > 0 and self._place(packet)
            for earlier in held:
                if jumps or (packet.is_keyframe and packet.stream.index == earlier.stream.index):
                    earlier.is_corrupt = False
            held.append(packet)
            while held and not _waits(held):
                yield held.popleft()
        yield from held

    def _place(self, packet: av.Packet) -> bool:
        """Move a packet's times onto the clock; returns whether its stream goes on in another stretch."""
        if packet.dts is None and packet.pts is None:
            return False
        state = self._states.get(packet.stream.index)
        stretch = self._stretch_of(packet, state)
        _move(packet, self._stretches[stretch])
        dts_s, pts_s = _seconds(packet.dts, packet), _seconds(packet.pts, packet)
        dts_s, pts_s = (pts_s if dts_s is None else dts_s), (dts_s if pts_s is None else pts_s)
        end_s = pts_s + float((packet.duration or 0) * packet.time_base)
        shown_s = pts_s if state is None else max(state.shown_s, pts_s)
        end_s = end_s if state is None else max(state.end_s, end_s)
        self._states[packet.stream.index] = _StreamState(stretch, dts_s, shown_s, end_s)
        self._end_s = max(self._end_s, end_s)
        return state is not None and state.stretch != stretch

    def _stretch_of(self, packet: av.Packet, state: _StreamState | None) -> int:
        newest = len(self._stretches) - 1
        if state is None:
            return newest
        tried = [state.stretch, *range(newest, max(newest - N_TRIED, -1), -1)]
        follows = [stretch for stretch in tried if self._goes_on(packet, state, stretch)]
        if packet.stream.type == "audio":  # sound may overlap a little: its stretch is the one that fits best
            follows.sort(key=lambda stretch: max(abs(self._moved_s(packet, stretch) - state.end_s), BACK_S))
        if follows:
            return follows[0]
        time_s, end_s = _sure_time(packet), self._pictures_end_s()
        moved_s = self._moved_s(packet, state.stretch)
        self._stretches.append(Fraction(end_s - time_s).limit_denominator(av.time_base))
        _say_once(
            f"{self._name}: its clock jumps from {state.end_s:.3f} to {moved_s:.3f} s; what follows is put at "
            f"{end_s:.3f} s, where the pictures had got to"
        )
        return newest + 1

    def _goes_on(self, packet: av.Packet, state: _StreamState, stretch: int) -> bool:
        """Whether a packet, as one of a stretch, follows what its stream and the file held before it.

        Sound may overlap, which its reader cuts, and pictures where another stream began the stretch.
        """
        time_s = self._moved_s(packet, stretch)
        in_order = _is_in_order(packet) and stretch == state.stretch and packet.stream.type == "video"
        earliest = state.shown_s - BACK_S if in_order else state.dts_s - REORDER_S
        return earliest <= time_s and not (self.may_jump and time_s > self._end_s + GAP_S)

    def _moved_s(self, packet: av.Packet, stretch: int) -> float:
        return _sure_time(packet) + float(self._stretches[stretch])

    def _pictures_end_s(self) -> float:
        """Where the pictures have got to; without any, all that was read."""
        pictures = (self._states.get(stream.index) for stream in self._container.streams.video)
        return max((state.end_s for state in pictures if state is not None), default=self._end_s)


@lru_cache(maxsize=1024)
def _say_once(message: str) -> None:
    log.warning(message)


def zero_s(container: av.container.InputContainer) -> Fraction:
    """The number of seconds on a container's own clock that is 0 on the file's."""
    start = Fraction(container.start_time or 0, av.time_base)
    if start >= 0:
        return start
    firsts = [s.start_time * s.time_base for s in container.streams.video if s.start_time is not None]
    return start if firsts and min(firsts) < 0 else Fraction(0)


def _waits(held: deque[av.Packet]) -> bool:
    """Whether what comes next may show that the first of these packets is whole."""
    first = held[0]
    n_of_stream = sum(packet.stream.index == first.stream.index for packet in held)
    return first.is_corrupt and held[-1].size > 0 and n_of_stream <= N_HELD


def _is_in_order(packet: av.Packet) -> bool:
    """Whether nothing of its stream that follows is shown before this packet: sound, and keyframes."""
    return packet.is_keyframe and packet.pts is not None


def _sure_time(packet: av.Packet) -> float:
    in_order = _is_in_order(packet) or packet.dts is None
    return _seconds(packet.pts if in_order else packet.dts, packet)


def _seconds(ticks: int | None, packet: av.Packet) -> float | None:
    return None if ticks is None else float(ticks * packet.time_base)


def _move(packet: av.Packet, by_s: Fraction) -> None:
    ticks = round(by_s / packet.time_base)
    packet.pts, packet.dts = (None if tick is None else tick + ticks for tick in (packet.pts, packet.dts))
