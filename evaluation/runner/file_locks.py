"""Locks on videos: held by the process that works on one, and gone when it ends."""

import fcntl
import hashlib
import os
from pathlib import Path


class FileLocks:
    """Locks on names, shared by all processes and machines that see one file.

    A lock is on one byte of the file, at a place that the name's hash gives, so the file stays empty. The
    kernel frees the locks of a process that is killed. Two names at one place (2^-62 a pair) only wait for each other.
    """

    def __init__(self, path: Path):
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def acquire(self, name: str, wait: bool = False) -> bool:
        """Lock a name; False where another process holds it, unless it is waited for."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, _place(name))
        except BlockingIOError:
            return False
        return True

    def release(self, name: str) -> None:
        """Unlock a name."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(name))

    def close(self) -> None:
        """Unlock all names."""
        os.close(self._file)


def _place(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 2
