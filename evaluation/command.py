"""What every evaluation command does once its flags are read: processes, model, items, answers, scores."""

import functools
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.checkpoint_predictor import CheckpointArguments, CheckpointPredictor
from evaluation.processes import launch
from evaluation.prompts import Templates
from evaluation.result import Result
from evaluation.run import RunArguments, evaluate, exit_status, is_first_process
from evaluation.score import print_results
from evaluation.task import Task

LoadTask = Callable[[Any, Templates, int | None], Task]


def run_task(
    load_task: LoadTask, benchmark: Any, model: CheckpointArguments, run: RunArguments, default_folder: Path
) -> int:
    """Ask a checkpoint the items of a benchmark, in as many processes as asked for; returns the exit status.

    load_task: a module's function, with the benchmark's arguments, templates and limit.
    """
    # What is wrong with the data is said once, before any model is loaded.
    load_task(benchmark, Templates(run.template_dir), run.limit)
    work = functools.partial(_work, load_task, benchmark, model, run, default_folder)
    return launch(work, run.num_workers)


def _work(
    load_task: LoadTask,
    benchmark: Any,
    model: CheckpointArguments,
    run: RunArguments,
    default_folder: Path,
    device: str | None,
) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    task = load_task(benchmark, Templates(run.template_dir), run.limit)
    predictor = CheckpointPredictor.load(model, device)
    folder = Path(run.output_dir) if run.output_dir else default_folder
    results = evaluate(task, predictor, folder, run.resume)
    return finish(results)


def finish(results: list[Result]) -> int:
    """Print the scores, where this process speaks for the run; returns the exit status."""
    if is_first_process():
        print_results(results)
    return exit_status(results)
