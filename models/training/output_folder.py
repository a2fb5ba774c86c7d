"""The folder of a run: held by one run at a time; what was there is moved aside, never removed."""

import fcntl
import functools
import io
import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from models.training import checkpoints
from utils.errors import UserError

LOCK = ".lock"
# What a run writes beside its checkpoints and its model.
RUN_FILES = ("train_log.jsonl", "training_args.bin")


def claim(output_dir: str | Path, model: str) -> None:
    """Make the folder and hold it until this process ends.

    Raises UserError where it cannot be made, is the folder of the model to start from, or another run trains there.
    """
    folder = Path(output_dir)
    if folder.exists() and folder.resolve() == Path(model).expanduser().resolve():
        raise UserError(
            f"--output_dir {output_dir}: the folder of --pretrained_model_name_or_path, which the run would overwrite; "
            "give another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _lock(folder.resolve())
    except BlockingIOError as error:
        raise UserError(
            f"--output_dir {output_dir}: another run trains there ({(folder / LOCK).read_text('utf-8').strip()}); "
            "wait for it or end it, or give another folder"
        ) from error
    except OSError as error:
        raise UserError(f"--output_dir {output_dir}: cannot be written to ({error}); give another folder") from error


@functools.cache
def _lock(folder: Path) -> io.TextIOWrapper:
    """A lock of the process's: its forked workers have none, and it goes with the process, however that ends."""
    file = (folder / LOCK).open("a", encoding="utf-8")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def set_aside(paths: Iterable[Path], output_dir: str | Path, label: str) -> Path:
    """Move files and folders into a new folder LABEL-TIME of output_dir; return it."""
    name = f"{label}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    taken = len(list(Path(output_dir).glob(f"{name}*")))
    target = Path(output_dir) / (f"{name}-{taken + 1}" if taken else name)
    target.mkdir()
    for path in paths:
        path.rename(target / path.name)
    return target


def find_run(output_dir: str | Path) -> list[Path]:
    """What an earlier run wrote into output_dir: checkpoint-N folders, its model, log and reports."""
    folders = [checkpoints.folder_of(output_dir, step) for step in checkpoints.read_marks(output_dir)]
    files = [path for path in sorted(Path(output_dir).iterdir()) if path.is_file()]
    return folders + [p for p in files if p.suffix in checkpoints.MODEL_FILES or p.name in RUN_FILES]


def check_not_in_use(paths: Iterable[Path], model: str | Path) -> None:
    """Raise UserError where one of the paths is, or holds, the model that the run starts from."""
    used = Path(model).resolve()
    for path in paths:
        if path.resolve() in (used, *used.parents):
            raise UserError(
                f"--overwrite_output_dir True would move {path}, from which this run starts "
                f"(--pretrained_model_name_or_path {model}); give another --output_dir"
            )
