"""The files that a step leaves of a shard, while they are written."""

import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import numpy as np

from data.production.record import with_ends
from utils.errors import UserError
from utils.files import write_whole

ADVICE = "free some space or give another --output_dir, then run the same command again: what is done is kept"
BUFFER = 1 << 16  # bytes
DIGEST_BYTES = 16
# Of a record of the input: its digest, and how many lines of either file are its own.
PART_TYPE = np.dtype([("digest", f"V{DIGEST_BYTES}"), ("n_kept", "<u4"), ("n_dropped", "<u4")])


class ShardFiles:
    """What a step makes of a shard while it is at it: hidden files, of which the store makes the shard's own.

    with_parts: notes which lines came from which record.
    """

    def __init__(self, base: Path, with_parts: bool):
        self._form = f".{base.name}.{{}}.{socket.gethostname()}-{os.getpid()}-{threading.get_native_id()}.partial"
        self._folder, self._files = base.parent, {}
        self._parts: list[bytes] | None = [] if with_parts else None
        with saved(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            for kind in ("kept", "dropped"):
                self._files[kind] = self._partial(kind).open("wb", buffering=BUFFER)

    def add(
        self, digests: Sequence[bytes], kept: Sequence[Sequence[bytes]], dropped: Sequence[Sequence[bytes]]
    ) -> None:
        """Lines that go on and those that do not, for each record that came in, by the digests of their lines."""
        with saved(self._folder):
            for file, lines in zip(self._files.values(), (kept, dropped), strict=True):
                file.writelines(with_ends(chain.from_iterable(lines)))
        if self._parts is None:
            return
        parts = np.zeros(len(digests), PART_TYPE)
        parts["digest"] = np.frombuffer(b"".join(digests), f"V{DIGEST_BYTES}")
        parts["n_kept"] = [len(lines) for lines in kept]
        parts["n_dropped"] = [len(lines) for lines in dropped]
        self._parts.append(parts.tobytes())

    def move(self, base: Path) -> None:
        """Give the files their names."""
        with saved(base):
            for kind, file in self._files.items():
                file.close()
                os.replace(self._partial(kind), base.with_name(f"{base.name}.{kind}.jsonl"))
        if self._parts is not None:
            put(base.with_name(f"{base.name}.parts"), b"".join(self._parts))

    def close(self) -> None:
        """Remove what has not been moved."""
        for kind, file in self._files.items():
            file.close()
            self._partial(kind).unlink(missing_ok=True)

    def _partial(self, kind: str) -> Path:
        return self._folder / self._form.format(kind)


def put(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there. Raises UserError where the disk does not take it."""
    write_whole(path, data, ADVICE)


@contextmanager
def saved(path: Path) -> Iterator[None]:
    """Turn what a disk says into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); {ADVICE}") from error


def partial_files(folder: Path) -> Iterator[Path]:
    """Half-written files that killed processes left behind."""
    return folder.rglob(".*.partial")
