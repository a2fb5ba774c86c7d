"""The checkpoint folders of a run: which are complete and whole, which are its own, which are removed."""

import json
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.files import sync, write_whole
from utils.fingerprint import fingerprint

NAME = re.compile(r"checkpoint-(0|[1-9]\d*)")
# Written last of all: a folder without it was cut short by a kill.
COMPLETE = "complete.json"
# Files of the model among those of a checkpoint; the others are where the training stood.
MODEL_FILES = (".safetensors", ".json", ".jinja", ".txt", ".model")
STATE_FILES = re.compile(r"(complete|trainer_state|data_state_rank\d+)\.json")


@dataclass(frozen=True)
class Line:
    """The checkpoints that a run stands on: its own, and up to where it left them those of the runs it goes on from.

    parts: (id of a run, last step of it that belongs here; None: all), the run itself first. Checkpoints of before ids
    were kept have None for one.
    """

    parts: tuple[tuple[str | None, int | None], ...]

    @property
    def run(self) -> str | None:
        return self.parts[0][0]

    def holds(self, mark: dict[str, Any], step: int) -> bool:
        """Whether a checkpoint is one of these."""
        return any(mark.get("run") == run and (last is None or step <= last) for run, last in self.parts)

    def branch(self, run: str, step: int) -> "Line":
        """The line of another run that goes on from a step of this one."""
        return Line(((run, None), (self.run, step), *self.parts[1:]))

    @classmethod
    def of(cls, mark: dict[str, Any]) -> "Line":
        """The line that a complete checkpoint was written in."""
        return cls(tuple((run, last) for run, last in mark.get("line", [[mark.get("run"), None]])))


def folder_of(output_dir: str | Path, step: int) -> Path:
    """Where the checkpoint of an optimizer step is."""
    return Path(output_dir) / f"checkpoint-{step}"


def read_marks(output_dir: str | Path) -> dict[int, dict | None]:
    """Step -> its mark, for every checkpoint in output_dir in order of steps; None for one cut short.

    A mark that cannot be read is {}.
    """
    marks = {}
    for folder in Path(output_dir).glob("checkpoint-*"):
        match = NAME.fullmatch(folder.name)
        if match and folder.is_dir():
            marks[int(match[1])] = _read_mark(folder)
    return dict(sorted(marks.items()))


def _read_mark(folder: Path) -> dict | None:
    if not (folder / COMPLETE).is_file():
        return None
    try:
        mark = json.loads((folder / COMPLETE).read_text("utf-8"))
    except ValueError:
        return {}
    return mark if isinstance(mark, dict) and "resumable" in mark else {}


def mark_complete(folder: Path, line: Line, **facts: object) -> None:
    """Declare a checkpoint complete, once it is on the disk; call it when every process has written its part.

    The mark holds each file's size and fingerprint. facts: with resumable=True, training can go on from it.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != COMPLETE)
    for path in [*files, folder]:
        sync(path)
    parts = {str(path.relative_to(folder)): [path.stat().st_size, fingerprint(path)] for path in files}
    mark = {**facts, "run": line.run, "line": line.parts, "written_unix_s": time.time(), "files": parts}
    write_whole(folder / COMPLETE, json.dumps(mark) + "\n")
    sync(folder / COMPLETE)
    sync(folder)


def unmark(folder: Path) -> None:
    """Remove the mark, before a folder is written again or removed."""
    (folder / COMPLETE).unlink(missing_ok=True)


def find_damage(folder: Path) -> str | None:
    """Say which part of a complete checkpoint is not as it was written; None where all are."""
    mark = _read_mark(folder)
    if not mark:
        return f"{COMPLETE} cannot be read"
    for name, (size, digest) in mark.get("files", {}).items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes of {size}"
        if fingerprint(path) != digest:
            return f"{name} has changed since it was written"
    return None


def newest_line(output_dir: str | Path) -> Line | None:
    """The line of the checkpoint that was written last, whatever its number; None where there is none to go on from."""
    marks = [mark for mark in read_marks(output_dir).values() if mark and mark["resumable"]]
    return Line.of(max(marks, key=lambda mark: mark.get("written_unix_s", 0))) if marks else None


def resumable_steps(output_dir: str | Path, line: Line | None = None) -> set[int]:
    """Steps from which training can go on; line: of these alone."""
    marks = {step: mark for step, mark in read_marks(output_dir).items() if mark and mark["resumable"]}
    return {step for step, mark in marks.items() if line is None or line.holds(mark, step)}


def check_resumable(folder: Path) -> None:
    """Raise UserError unless training can go on from `folder`."""
    name = NAME.fullmatch(folder.name)
    if name and int(name[1]) in resumable_steps(folder.parent):
        why = find_damage(folder)
        if why is None:
            return
    elif _read_mark(folder) == {}:
        why = f"{COMPLETE} cannot be read"
    else:
        why = "cut short by a kill, or saved with --save_only_model" if folder.is_dir() else "no such folder"
    raise UserError(
        f"--resume_from_checkpoint {folder}: not a complete checkpoint ({why}); {_others(folder)}, or leave the flag "
        "out to take the last complete one in --output_dir"
    )


def _others(folder: Path) -> str:
    """What to give instead: of the folder itself where it holds checkpoints, else of the one it is in."""
    for place in (folder, folder.parent):
        steps = resumable_steps(place)
        whole = [folder_of(place, step) for step in sorted(steps) if find_damage(folder_of(place, step)) is None]
        if whole:
            return f"give {whole[-1]}"
    return "give another checkpoint-N folder"


def copy_model(folder: Path, target: Path) -> None:
    """Copy the model of a checkpoint, with all that belongs to it, and nothing of the training's state."""
    for file in folder.iterdir():
        if file.suffix in MODEL_FILES and not STATE_FILES.fullmatch(file.name):
            shutil.copy2(file, target / file.name)


def keep_last(output_dir: str | Path, n: int | None, line: Line) -> None:
    """Remove all but the last n complete checkpoints that the run itself wrote; None or 0 keeps all."""
    marks = read_marks(output_dir)
    own = [step for step, mark in marks.items() if mark and mark.get("run") == line.run]
    for step in own[:-n] if n else []:
        remove(folder_of(output_dir, step))


def remove(folder: Path) -> None:
    """Remove a checkpoint; the mark goes first, so that a kill half-way leaves no seemingly complete one."""
    unmark(folder)
    shutil.rmtree(folder)
