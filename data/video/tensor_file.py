"""A safetensors file of tensors and of what they were made of: a file made of anything else is as good as none."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from utils.files import partial_file

Kept = tuple[dict[str, Any], dict[str, torch.Tensor]]


def write_tensors(
    place: Path, tensors: dict[str, torch.Tensor], made_of: dict[str, Any], facts: dict[str, Any], sync: bool = False
) -> None:
    """Write a file whole or not at all; made_of and facts are JSON values and stand in its header.

    sync: onto the disk before its name is there, so that a machine that goes down leaves no file with holes in it.
    Raises OSError, whose strerror says what went wrong.
    """
    metadata = {name: json.dumps(value) for name, value in {**facts, "made_of": made_of}.items()}
    place.parent.mkdir(exist_ok=True)
    with partial_file(place) as partial:
        try:
            save_file(tensors, partial, metadata)
        except SafetensorError as error:  # a full disk too
            raise OSError(errno.EIO, str(error)) from error
        if sync:
            with partial.open("rb") as file:
                os.fsync(file.fileno())


def read_tensors(place: Path, made_of: dict[str, Any]) -> Kept | None:
    """The facts and tensors of a file, or None where there is none, a damaged one, or one made of something else.

    The tensors are a private view of the file, mapped into memory: writing to them does not change it.
    """
    try:
        with safe_open(place, "pt") as file:
            facts = {name: json.loads(text) for name, text in file.metadata().items()}
            if facts.pop("made_of") != made_of:
                return None
            return facts, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
    # Not there, of an older form, or cut off when a machine went down.
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError):
        return None
