"""Evaluation commands run in the test's own process, on the tiny checkpoint."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import pytest

from evaluation.scoring.results import BenchmarkRun
from evaluation.tasks.item import Item
from evaluation.tasks.prompts import PromptTemplates
from tests.videos import make_video


def write_lines(path: Path, rows: Iterable[dict]) -> Path:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_videos(folder: Path, *names: str, n_frames: int = 75) -> None:
    """Write videos of 3 s (at 25 frames a second) under their names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        make_video(folder / name, n_frames)


def run_main(main: Callable[[], int | None], monkeypatch: pytest.MonkeyPatch, *flags: object) -> int:
    """Run a command's main function with these flags; its exit status."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, flags)])
    return main() or 0


def ask(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, output_dir: Path, *flags: object, status: int = 0
) -> BenchmarkRun:
    """Run an evaluation command, which must end with `status`, and read the one result that it writes."""
    flags = (*flags, "--device", "cpu", "--output_dir", output_dir)
    assert run_main(script.main, monkeypatch, *flags) == status
    (path,) = output_dir.glob("*.result.json")
    return BenchmarkRun.read(path)


def items_of(task: ModuleType, arguments: object) -> dict[str, Item]:
    """A task's items by their ids."""
    return {item.id: item for item in task.load_task(arguments, PromptTemplates()).items}
