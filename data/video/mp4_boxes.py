"""Boxes of MP4 and MOV files (ISO/IEC 14496-12) that say why a file cannot be played."""

import os
from collections.abc import Iterator
from typing import BinaryIO

# Sample entries of encrypted pictures: Common Encryption (ISO/IEC 23001-7), and FairPlay.
ENCRYPTED = (b"encv", b"drmi")
TO_SAMPLE_ENTRIES = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def is_encrypted(path: str | os.PathLike) -> bool:
    """Whether a file's pictures are protected, so that what a decoder makes of them is noise. Raises OSError."""
    with open(path, "rb") as file:
        return any(kind in ENCRYPTED for kind, _, _ in _within(file, 0, _size(file), TO_SAMPLE_ENTRIES))


def what_is_missing(path: str | os.PathLike) -> str | None:
    """What a file that cannot be opened lacks, None where its boxes are whole. Raises OSError."""
    with open(path, "rb") as file:
        size = _size(file)
        boxes = list(_boxes(file, 0, size))
    if boxes and boxes[-1][2] > size:
        return f"it is cut short: its boxes take {boxes[-1][2]} bytes, and it has {size}"
    if all(kind != b"moov" for kind, _, _ in boxes):
        return "its index (the moov box) is missing, which is written last: its recording or download broke off"
    return None


def _within(file: BinaryIO, start: int, stop: int, path: tuple[bytes, ...]) -> Iterator[tuple[bytes, int, int]]:
    """The boxes inside the boxes of `path`."""
    if not path:
        yield from _boxes(file, start + 8, stop)  # behind the version and the number of sample entries
        return
    for kind, body, end in _boxes(file, start, stop):
        if kind == path[0]:
            yield from _within(file, body, end, path[1:])
            if kind == b"moov":
                return  # what follows may be thousands of fragments


def _boxes(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, first byte of the contents, and first byte behind them, of the boxes that begin in [start, stop)."""
    while start + 8 <= stop:
        file.seek(start)
        header = file.read(16)
        size, kind, body = int.from_bytes(header[:4], "big"), header[4:8], start + 8
        if size == 1:
            size, body = int.from_bytes(header[8:16], "big"), start + 16
        end = stop if size == 0 else start + size
        if end < body:
            return
        yield kind, body, end
        start = end


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size
