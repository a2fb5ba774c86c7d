"""Values of flags by kind: limits of numbers, text in UTF-8, and paths that are what they must be."""

import operator
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from utils.errors import UserError

LIMITS = {"ge": "must be {} or more", "gt": "must be above {}", "le": "must be at most {}", "lt": "must be below {}"}
SHARE = {"ge": 0, "le": 1}
LARGEST = 2**63 - 1  # integer of the libraries below


def check_values(arguments: Any) -> None:
    """Check the fields of a dataclass instance against their metadata. Raises UserError for the first that cannot work.

    Numbers are finite and, unless their default is negative or metadata says otherwise, at least 0. Text is UTF-8.
    """
    for field in fields(arguments):
        flag = field.name.upper() if field.metadata.get("positional") else f"--{field.name}"
        value = getattr(arguments, field.name)
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(one, (int, float)) and not isinstance(one, bool):
                _check_number(flag, one, _limits(field))
            elif isinstance(one, (str, Path)):
                _check_text(flag, str(one), field.metadata.get("path"))


def _limits(field: Any) -> dict[str, float]:
    limits = {name: field.metadata[name] for name in LIMITS if name in field.metadata}
    negative = isinstance(field.default, (int, float)) and field.default < 0
    return limits if negative or limits.keys() & {"ge", "gt"} else {"ge": 0, **limits}


def _check_number(flag: str, value: float, limits: dict[str, float]) -> None:
    if not -LARGEST <= value <= LARGEST:
        raise UserError(f"{flag} {value}: must be a finite number, at most 2**63 - 1")
    for name, limit in limits.items():
        if not getattr(operator, name)(value, limit):
            what = "must be between 0 and 1" if limits == SHARE else LIMITS[name].format(limit)
            raise UserError(f"{flag} {value}: {what}")


def _check_text(flag: str, text: str, path: str | None) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{flag} {text!a}: is no UTF-8; rename the file, or set a UTF-8 locale") from None
    if "\0" in text:
        raise UserError(f"{flag} {text!a}: holds a NUL character")
    if path is None:
        return
    try:
        complaint = PATHS[path](Path(text))
    except OSError as error:  # a name that is too long, a circle of links
        complaint = f"cannot be reached ({error.strerror})"
    if complaint:
        raise UserError(f"{flag} {text}: {complaint}")


def _input_file(path: Path) -> str | None:
    if path.is_dir():
        return "is a folder; give a file"
    return None if path.exists() else "no such file; check the path"


def _input_folder(path: Path) -> str | None:
    if path.is_dir():
        return None
    return "is no folder" if path.exists() else "no such folder; check the path"


def _output_file(path: Path) -> str | None:
    return "is a folder; give the name of a file in it" if path.is_dir() else _place(path.absolute().parent)


def _output_folder(path: Path) -> str | None:
    return _place(path.absolute())


def _place(folder: Path) -> str | None:
    """What keeps a folder from being made or written to."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    if not there.is_dir():
        return f"cannot be written: {there} is no folder"
    return None if os.access(there, os.W_OK) else f"cannot be written: no permission for {there}"


PATHS: dict[str, Callable[[Path], str | None]] = {
    "file": _input_file,
    "folder": _input_folder,
    "output_file": _output_file,
    "output_folder": _output_folder,
}
