"""Files that are there whole or not at all."""

import contextlib
import json
import os
import re
import socket
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from utils.errors import UserError

BUFFER = 1 << 16  # bytes


@contextlib.contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Yield the name of a hidden file beside `path`, which takes its place at the end, or goes after an exception.

    The name is the process's and thread's own, also in a folder that other machines write to. A link is followed, and
    a file that was there keeps its mode and owner. What is no regular file (a device, a pipe) is yielded itself, to be
    written through. Raises OSError.
    """
    if _is_written_through(path):
        yield path
        return
    path = path.resolve()
    partial = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}-{threading.get_native_id()}.partial")
    try:
        yield partial
        _take_over_mode(path, partial)
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # what went wrong before says more
            partial.unlink(missing_ok=True)
        raise


def _is_written_through(path: Path) -> bool:
    # Standard output is a link, whose end may be a regular file that the shell holds open.
    is_stream = str(path.absolute()).startswith(("/dev/std", "/dev/fd/", "/proc/"))
    return is_stream or (path.exists() and not path.is_file())


def _take_over_mode(before: Path, after: Path) -> None:
    if not before.exists():
        return
    old = before.stat()
    with contextlib.suppress(PermissionError):  # another's file in a folder of ours
        os.chown(after, old.st_uid, old.st_gid)
    os.chmod(after, stat.S_IMODE(old.st_mode))


def sync(path: Path) -> None:
    """Force a file, or a folder's list of names, onto the disk. Raises OSError."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_whole(path: Path, content: str | bytes | Iterable[bytes], next_step: str = "give another path") -> None:
    """Write a file beside its place and move it there, so that no reader sees half of it; a text in UTF-8.

    Pieces are written one after the other, which is far quicker than to join megabytes of them. The file is not forced
    onto the disk: a machine that goes down may lose it. Raises UserError, which ends with next_step, where it cannot be
    written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = content.encode() if isinstance(content, str) else content
        with partial_file(path) as partial, partial.open("wb", buffering=BUFFER) as file:
            file.writelines([content] if isinstance(content, bytes) else content)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); {next_step}") from error


def read_json(path: Path, made_by: str) -> Any:
    """Read a JSON file. Raises UserError, which names the command that makes it, where it is not there."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; run {made_by}, which makes it")
    return json.loads(path.read_text(encoding="utf-8"))


def remove_leftovers(path: Path) -> None:
    """Remove the partial files of `path` that killed processes of this machine left behind."""
    form = re.compile(rf"\.{re.escape(path.resolve().name)}\.{re.escape(socket.gethostname())}-(\d+)-\d+\.partial")
    with contextlib.suppress(OSError):
        for sibling in path.resolve().parent.iterdir():
            match = form.fullmatch(sibling.name)
            if match and not _is_running(int(match[1])):
                sibling.unlink()


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
