"""Which packets of a stream must be decoded to get certain frames."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PacketOrder:
    """The packets of a stream in decoding order: int64 [m] times in ticks, the index of the frame that each
    gives (-1 for one that is decoded but never shown, before an edit's start), and bool [m] for keyframes."""

    pts: np.ndarray
    dts: np.ndarray
    frame: np.ndarray
    keyframe: np.ndarray


@dataclass(frozen=True)
class PacketSpan:
    """Packets first..last (places in decoding order), decoded in one go, and the wanted frames they give."""

    first: int
    last: int
    wanted: list[int]  # frame indices


def packet_spans(packets: PacketOrder, wanted: np.ndarray) -> list[PacketSpan]:
    """Return the stretches of packets that give the frames `wanted` (sorted indices), each from a keyframe.

    What lies between two stretches need not be decoded.
    """
    place_of = np.full(packets.frame.max() + 1, -1, np.int64)
    shown = np.flatnonzero(packets.frame >= 0)
    place_of[packets.frame[shown]] = shown
    keyframes = np.flatnonzero(packets.keyframe)
    found: list[PacketSpan] = []
    for place, frame in sorted((int(place_of[frame]), int(frame)) for frame in wanted):
        first = _start_place(packets, keyframes, place)
        if found and first <= found[-1].last:
            found[-1] = PacketSpan(found[-1].first, place, [*found[-1].wanted, frame])
        else:
            found.append(PacketSpan(first, place, [frame]))
    return found


def _start_place(packets: PacketOrder, keyframes: np.ndarray, place: int) -> int:
    """Return the place of the keyframe from which the packet at `place` can be decoded; 0 if none.

    A frame shown before the keyframe that precedes it in the file (an open group of pictures) needs the one
    before.
    """
    before = int(np.searchsorted(keyframes, place, side="right")) - 1
    while before > 0 and packets.pts[keyframes[before]] > packets.pts[place]:
        before -= 1
    return int(keyframes[before]) if before >= 0 else 0
