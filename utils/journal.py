"""Rows kept over a kill: a folder of JSON lines files, one for each process that wrote, appended and flushed."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from utils.errors import UserError


class Journal:
    """Rows of one kind in one folder; threads of a process share one, and many processes may write.

    A line that a kill cut short is left out. name: begins the files' names. fresh: earlier rows do not count.
    """

    def __init__(self, folder: Path, name: str, fresh: bool = False):
        self.folder, self.name, self.fresh = folder, name, fresh
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()
        self._read: dict[Path, tuple[int, int]] = {}  # bytes and lines of each file that were read
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder}: nothing can be kept there ({error}); give another --output_dir") from error

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every whole row that this journal has not read yet, of every file, in the order in which a file has them.

        Raises UserError for a line that is no row.
        """
        for path in [] if self.fresh else sorted(self.folder.glob(f"{self.name}-*.jsonl")):
            n_bytes, n_lines = self._read.get(path, (0, 0))
            with path.open("rb") as file:
                file.seek(n_bytes)
                lines = file.read().split(b"\n")[:-1]
            self._read[path] = (n_bytes + sum(len(line) + 1 for line in lines), n_lines + len(lines))
            for number, line in enumerate(lines, start=n_lines + 1):
                yield _parsed(path, number, line)

    def append(self, row: dict[str, Any]) -> None:
        """Keep a row. Raises UserError where the disk does not take it."""
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        with self._lock:
            try:
                if self._file is None:
                    self._file = self._own_file()
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                raise UserError(f"{self.folder}: a row could not be kept ({error}); is the disk full?") from error

    def close(self) -> None:
        """Close this process's file; a later row opens another."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _own_file(self) -> BinaryIO:
        """A file that no other process has: named by machine and process, and by a number where that was used."""
        number = 0
        while True:
            try:
                return (self.folder / f"{self.name}-{socket.gethostname()}-{os.getpid()}-{number}.jsonl").open("xb")
            except FileExistsError:
                number += 1


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise UserError(
            f"{path}, line {number}: not a row ({error}); move the file away to have its rows made again"
        ) from None
    return row
