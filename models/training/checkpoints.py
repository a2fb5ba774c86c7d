"""The checkpoint folders of a run: which are complete, which is the last, which are removed."""

import json
import re
import shutil
from pathlib import Path

from utils.errors import UserError
from utils.files import write_whole

NAME = re.compile(r"checkpoint-(0|[1-9]\d*)")
# Written last of all: a folder without it was cut short by a kill.
COMPLETE = "complete.json"
# Files of the model among those of a checkpoint; the others are where the training stood.
MODEL_FILES = (".safetensors", ".json", ".jinja", ".txt", ".model")
STATE_FILES = re.compile(r"(complete|trainer_state|data_state_rank\d+)\.json")


def folder_of(output_dir: str | Path, step: int) -> Path:
    """Where the checkpoint of an optimizer step is."""
    return Path(output_dir) / f"checkpoint-{step}"


def read_marks(output_dir: str | Path) -> dict[int, dict | None]:
    """Step -> its mark, for every checkpoint in output_dir in order of steps; None for one cut short."""
    marks = {}
    for folder in Path(output_dir).glob("checkpoint-*"):
        match = NAME.fullmatch(folder.name)
        if match and folder.is_dir():
            mark = folder / COMPLETE
            marks[int(match[1])] = json.loads(mark.read_text("utf-8")) if mark.is_file() else None
    return dict(sorted(marks.items()))


def mark_complete(folder: Path, **facts: object) -> None:
    """Declare a checkpoint complete; call it when every process has written its part.

    facts: with resumable=True, training can go on from it.
    """
    write_whole(folder / COMPLETE, json.dumps(facts) + "\n")


def unmark(folder: Path) -> None:
    """Remove the mark, before a folder is written again or removed."""
    (folder / COMPLETE).unlink(missing_ok=True)


def resumable_steps(output_dir: str | Path) -> set[int]:
    """Steps from which training can go on."""
    return {step for step, mark in read_marks(output_dir).items() if mark and mark["resumable"]}


def check_resumable(folder: Path) -> None:
    """Raise UserError unless training can go on from `folder`."""
    name = NAME.fullmatch(folder.name)
    if name and int(name[1]) in resumable_steps(folder.parent):
        return
    why = "cut short by a kill, or saved with --save_only_model" if folder.is_dir() else "no such folder"
    raise UserError(
        f"--resume_from_checkpoint {folder}: not a complete checkpoint ({why}); give another checkpoint-N "
        "folder, or leave the flag out to take the last complete one in --output_dir"
    )


def copy_model(folder: Path, target: Path) -> None:
    """Copy the model of a checkpoint, with all that belongs to it, and nothing of the training's state."""
    for file in folder.iterdir():
        if file.suffix in MODEL_FILES and not STATE_FILES.fullmatch(file.name):
            shutil.copy2(file, target / file.name)


def keep_last(output_dir: str | Path, n: int | None) -> None:
    """Remove all but the last n complete checkpoints; None or 0 keeps all."""
    complete = [step for step, mark in read_marks(output_dir).items() if mark]
    for step in complete[:-n] if n else []:
        remove(folder_of(output_dir, step))


def remove_all(output_dir: str | Path, model_in_use: str | Path) -> list[Path]:
    """Remove every checkpoint-N folder of output_dir, nothing else; return them.

    Raises UserError where one of them is, or holds, the model that the run starts from.
    """
    folders = [folder_of(output_dir, step) for step in read_marks(output_dir)]
    model = Path(model_in_use).resolve()
    for folder in folders:
        if folder.resolve() in (model, *model.parents):
            raise UserError(
                f"--overwrite_output_dir True would remove {folder}, from which this run starts "
                f"(--pretrained_model_name_or_path {model_in_use}); give another --output_dir"
            )
    for folder in folders:
        remove(folder)
    return folders


def remove(folder: Path) -> None:
    """Remove a checkpoint; the mark goes first, so that a kill half-way leaves no seemingly complete one."""
    unmark(folder)
    shutil.rmtree(folder)
