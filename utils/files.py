"""Files that are there whole or not at all."""

import os
from pathlib import Path

from utils.errors import UserError


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside its place and move it there, so that no reader sees half of it.

    Raises UserError where it cannot be written.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path}: cannot be written ({error}); give another path") from error
