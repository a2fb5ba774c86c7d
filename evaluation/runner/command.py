"""Course of every evaluation command once its flags are read: processes, model, items, answers, scores."""

import functools
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.predictors.load import load_checkpoint_predictor
from evaluation.predictors.predictor import Predictor
from evaluation.runner.processes import launch
from evaluation.runner.run import EvaluationArguments, evaluate_task, exit_status, is_first_process
from evaluation.scoring.score_lines import print_runs
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task
from utils.errors import UserError

N_NAMED = 5  # lines left out that are said one by one

LoadTask = Callable[[Any, PromptTemplates, int | None], Task]
LoadPredictor = Callable[[Any, str | None], Predictor]
Work = Callable[[Task, Predictor, Path, bool], int]


def score_task(task: Task, predictor: Predictor, folder: Path, resume: bool) -> int:
    """Ask what has no answer yet and print the scores; returns the exit status."""
    runs = evaluate_task(task, predictor, folder, resume)
    if is_first_process():
        print_runs(runs)
    return exit_status(runs)


def run_task(
    load_task: LoadTask,
    benchmark: Any,
    model: Any,
    run: EvaluationArguments,
    default_folder: Path,
    load_predictor: LoadPredictor = load_checkpoint_predictor,
    work: Work = score_task,
) -> int:
    """Ask a model the items of a benchmark, in as many processes as asked for; returns the exit status.

    load_task: a module's function, with the benchmark's arguments, templates and limit. load_predictor: makes the model
    of its arguments and a device. work: asks, and makes something of the answers.
    """
    # What is wrong with the data is said once, before any model is loaded.
    check_task(load_task(benchmark, PromptTemplates(run.template_dir), run.limit))
    folder = Path(run.output_dir) if run.output_dir else default_folder
    process = functools.partial(_run_process, load_task, benchmark, model, run, folder, load_predictor, work)
    return launch(process, run.num_workers)


def check_task(task: Task) -> None:
    """Say what was left out. Raises UserError where no item has its video, which no model need be loaded for."""
    if task.skipped:
        print(f"{len(task.skipped)} lines are left out:", *task.skipped[:N_NAMED], sep="\n  ", file=sys.stderr)
    if all(item.clip is None for item in task.items):
        raise UserError(f"none of the {len(task.items)} items has its video: {task.items[0].problem}")


def _run_process(
    load_task: LoadTask,
    benchmark: Any,
    model: Any,
    run: EvaluationArguments,
    folder: Path,
    load_predictor: LoadPredictor,
    work: Work,
    device: str | None,
) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    for ours in ("data", "evaluation", "models"):
        logging.getLogger(ours).setLevel(logging.INFO)
    task = load_task(benchmark, PromptTemplates(run.template_dir), run.limit)
    return work(task, load_predictor(model, device), folder, run.resume)
