"""An output file that appears under its name only when it is complete."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import av

from utils.errors import UserError


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the name of a partial file beside `path`, which takes its place at the end, or goes after an exception.

    What a killed process left is removed by the next one that writes the same file. Raises UserError where the system
    refuses to write.
    """
    _remove_leftovers(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, av.FFmpegError) as error:
        raise UserError(
            f"{path}: cannot be written ({getattr(error, 'strerror', None) or error}); free space or use another path"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    form = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.partial")
    with contextlib.suppress(OSError):
        for sibling in path.absolute().parent.iterdir():
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
