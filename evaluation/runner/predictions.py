"""Predictions about events as one file in the published format, for commands whose answers are judged later."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from evaluation.predictors.predictor import Predictor
from evaluation.runner.run import FAILED, ask_items, is_first_process
from evaluation.scoring.settings_path import settings_path
from evaluation.tasks.task import Task
from utils.files import write_whole
from utils.fingerprint import digest


def generate(task: Task, predictor: Predictor, folder: Path, resume: bool, next_step: str = "") -> int:
    """Ask what has no answer yet and write {model}.jsonl; returns the exit status, FAILED where an event has no answer.

    next_step: the command that judges the file; {model}, {file} and {folder} in it are filled.
    """
    store = ask_items(task, predictor, folder, resume)
    rows = list(store.rows(task.items))
    errors = [row["error"] for row in rows]
    if is_first_process():
        answered = sum(row["error"] is None for row in rows)
        path = settings_path(folder, predictor.name, ".jsonl", digest([task.protocol, store.settings])[:8], answered)
        pairs = zip(task.items, rows, strict=True)
        write_predictions(
            path,
            [
                prediction(item.video_id, shown["event_id"], shown["begin"], shown["end"], row["response"])
                for item, row in pairs
                if row["error"] is None and (shown := item.shown)
            ],
        )
        report_predictions(errors, path)
        if next_step:
            print("Judge it with:\n" + next_step.format(model=predictor.name, file=path, folder=folder.parent))
    return FAILED if any(errors) else 0


def prediction(video_id: str, event_id: str | int, begin: float, end: float, text: str) -> dict:
    """Make a line of the file; an event id that is a number is written as one."""
    number = int(event_id) if str(event_id).isdecimal() else None
    return {
        "video_id": video_id,
        "event_id": number if str(number) == str(event_id) else event_id,
        "begin": begin,
        "end": end,
        "pred": text,
    }


def write_predictions(path: Path, predictions: Sequence[dict]) -> None:
    """Write the answered events, whole or not at all."""
    write_whole(path, "".join(json.dumps(line) + "\n" for line in predictions))


def report_predictions(errors: Sequence[str | None], path: Path) -> None:
    """Print how many events were answered (None), and why others were not."""
    causes = Counter(error for error in errors if error is not None)
    n_answered = len(errors) - causes.total()
    print(f"{n_answered} of {len(errors)} events are in {path}; they have no score before they are judged.")
    if causes:
        print(
            f"{causes.total()} events have no answer and are not in the file; the same command asks them again:",
            *(f"  {n} x {cause}" for cause, n in causes.most_common(5)),
            sep="\n",
            file=sys.stderr,
        )
