"""An output file that appears under its name only when it is complete."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import av

from utils.errors import UserError
from utils.files import partial_file, remove_leftovers


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the name of a partial file beside `path`, which takes its place at the end, or goes after an exception.

    It is on the disk before its name is. What a killed process left is removed by the next one that writes the same
    file. Raises UserError where the system refuses to write.
    """
    remove_leftovers(path)
    try:
        with partial_file(path) as partial:
            yield partial
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
    except (OSError, av.FFmpegError) as error:
        raise UserError(
            f"{path}: cannot be written ({getattr(error, 'strerror', None) or error}); free space or use another path"
        ) from error
