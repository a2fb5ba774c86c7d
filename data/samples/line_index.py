"""Where each sample of a JSONL file starts: byte offsets in a memory-mapped sidecar file.

The sidecar FILE.index is a header, then blocks of 64 offsets (one 64-bit base, 64 distances of 32 bits from
it: 4 bytes a line instead of 8), then the places of blank lines. It is built by one scan of the file, checked
against the file's size, time and ends whenever it is opened, and rebuilt when they differ.

Some published files end in a line that lists the offset of every sample. It is recognised and left out, but
not used: where an author counted characters it is wrong, and to check it costs as much as the scan.
"""

import hashlib
import logging
import os
import stat
import struct
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from utils.errors import UserError
from utils.files import partial_file

logger = logging.getLogger(__name__)

MAGIC = b"JSONLIX1"
HEADER = struct.Struct("<8sQq32sQQ")  # magic, file size, mtime in ns, digest of the ends, samples, blank lines
BLOCK = 64  # lines
BLOCK_TYPE = np.dtype([("base", "<u8"), ("distance", "<u4", BLOCK)])
PIECE = 1 << 20  # bytes read at once, so that a file without line ends is not read whole
ENDS = 1 << 16  # bytes of the file's head and tail that are digested
PROGRESS_AFTER_S = 5


class LineIndex:
    """The samples of one file by number: `span(i)` in bytes, `line_no(i)` as an editor counts."""

    def __init__(self, sidecar: Path):
        self.sidecar = sidecar
        with open(sidecar, "rb") as file:
            header = HEADER.unpack(file.read(HEADER.size))
        self.n_samples, n_blank = header[4:]
        n_blocks = self.n_samples // BLOCK + 1
        self._blocks = np.memmap(sidecar, BLOCK_TYPE, "r", offset=HEADER.size, shape=(n_blocks,))
        with open(sidecar, "rb") as file:
            file.seek(HEADER.size + n_blocks * BLOCK_TYPE.itemsize)
            # For each blank line, the number of samples before it.
            self._blank = np.fromfile(file, "<u8", n_blank)

    def __len__(self) -> int:
        return self.n_samples

    def span(self, i: int) -> tuple[int, int]:
        """First byte of sample i and the first byte after it (its line end and blank lines included)."""
        return self._offset(i), self._offset(i + 1)

    def line_no(self, i: int) -> int:
        """Number of sample i's line, counted from 1."""
        return i + 1 + int(np.searchsorted(self._blank, i, side="right"))

    def _offset(self, i: int) -> int:
        block = self._blocks[i // BLOCK]
        return int(block["base"]) + int(block["distance"][i % BLOCK])


def open_index(path: Path) -> LineIndex:
    """The index of a JSONL file, built first where there is none that matches the file.

    Raises UserError for a file that is missing, empty or cannot be read, or an index that cannot be written.
    """
    _require_file(path)
    identity = file_identity(path)
    for sidecar in _sidecars(path):
        if _matches(sidecar, identity):
            return LineIndex(sidecar)
    return LineIndex(_build(path, identity))


def file_identity(path: Path) -> bytes:
    """Size, modification time and a digest of the file's ends, packed as in the sidecar's header."""
    with open(path, "rb") as file:
        info = os.fstat(file.fileno())
        digest = hashlib.sha256(file.read(ENDS))
        file.seek(max(0, info.st_size - ENDS))
        digest.update(file.read(ENDS))
    return struct.pack("<Qq32s", info.st_size, info.st_mtime_ns, digest.digest())


def _require_file(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path}: no such annotation file; check the path (working directory {Path.cwd()})")
    if not path.is_file():
        raise UserError(f"{path}: is not a file; give a JSONL file with one sample a line")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: cannot be read; check its permissions")


def _sidecars(path: Path) -> tuple[Path, Path]:
    """Where the index may lie: beside the file, or in the user's cache when that folder is read-only."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    key = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return path.with_name(path.name + ".index"), cache / "livecc" / f"{path.name}.{key}.index"


def _matches(sidecar: Path, identity: bytes) -> bool:
    try:
        with open(sidecar, "rb") as file:
            header = file.read(HEADER.size)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return False
    if len(header) < HEADER.size or header[: 8 + len(identity)] != MAGIC + identity:
        return False
    n_samples, n_blank = HEADER.unpack(header)[4:]
    return size == HEADER.size + (n_samples // BLOCK + 1) * BLOCK_TYPE.itemsize + 8 * n_blank


def _writable(folder: Path) -> bool:
    # The administrator may write anywhere; a folder marked as read-only is left alone all the same.
    any_write = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    return bool(folder.stat().st_mode & any_write) and os.access(folder, os.W_OK)


def _build(path: Path, identity: bytes) -> Path:
    """Scan the file and write its sidecar in one move, so that a reader never sees half of one."""
    sidecar, cached = _sidecars(path)
    if not _writable(path.parent):
        logger.warning("%s is read-only: the index of %s is kept in %s", path.parent, path.name, cached)
        sidecar = cached
    try:
        sidecar.parent.mkdir(parents=True, exist_ok=True)
        with partial_file(sidecar) as partial, open(partial, "wb") as out:
            _write(path, identity, out)
    except OSError as error:
        raise UserError(
            f"{sidecar}: the index of {path} cannot be written ({error}); free some space, or set "
            "XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return sidecar


def _write(path: Path, identity: bytes, out: BinaryIO) -> None:
    out.write(bytes(HEADER.size))
    blank, block, n_lines, last = array("Q"), [], 0, 0
    with open(path, "rb", buffering=PIECE) as file:
        for offset, is_blank in _lines(file):
            if is_blank:
                blank.append(n_lines)
                continue
            block.append(offset)
            n_lines, last = n_lines + 1, offset
            if len(block) == BLOCK:
                out.write(_packed(block, path))
                block = []
        end = file.tell()
        # The offset after the last sample closes the list: the seek line's own offset, where there is one.
        n_samples = n_lines - _is_seek_line(file, last, n_lines, path) if n_lines else 0
    if not n_samples:
        empty = "" if end else "is empty (0 bytes): it "
        raise UserError(f"{path}: {empty}holds no samples; give a JSONL file with one sample a line")
    if n_samples == n_lines:
        block.append(end)
    if block:
        out.write(_packed(block, path))
    out.write(blank.tobytes())
    out.seek(0)
    out.write(MAGIC + identity + struct.pack("<QQ", n_samples, len(blank)))


def _lines(file: BinaryIO) -> Iterator[tuple[int, bool]]:
    """Offset of every line, and whether it is blank."""
    size = os.fstat(file.fileno()).st_size
    offset, shown = 0, 0
    with tqdm(total=size, unit="B", unit_scale=True, desc="indexing", delay=PROGRESS_AFTER_S) as progress:
        while piece := file.readline(PIECE):
            start, blank = offset, piece.isspace()
            offset += len(piece)
            while not piece.endswith(b"\n") and (piece := file.readline(PIECE)):
                blank = blank and piece.isspace()
                offset += len(piece)
            yield start, blank
            if offset - shown > 16 * PIECE:
                progress.update(offset - shown)
                shown = offset


def _packed(offsets: list[int], path: Path) -> bytes:
    """One block of the sidecar; a last one that is not full is padded."""
    if offsets[-1] - offsets[0] >= 1 << 32:
        raise UserError(f"{path}: {BLOCK} lines take over 4 GiB at byte {offsets[0]}; is it one sample a line?")
    block = np.zeros(1, BLOCK_TYPE)
    block["base"] = offsets[0]
    block["distance"][0, : len(offsets)] = np.asarray(offsets, np.uint64) - np.uint64(offsets[0])
    return block.tobytes()


def _is_seek_line(file: BinaryIO, start: int, n_lines: int, path: Path) -> bool:
    """Whether the last line lists the offsets of the samples before it (a list of whole numbers)."""
    file.seek(start)
    if file.read(1) != b"[" or not file.read(64).lstrip()[:1].isdigit():
        return False
    file.seek(start)
    n_listed = 1
    while piece := file.read(PIECE):
        if piece.translate(None, b"0123456789, []\t\r\n"):
            return False
        n_listed += piece.count(b",")
    if n_listed != n_lines - 1:
        logger.warning(
            "%s: its last line lists %d samples, but the file has %d; was it cut or changed since?",
            path,
            n_listed,
            n_lines - 1,
        )
    return True
