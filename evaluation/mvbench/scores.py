"""MVBench's scores: twenty tasks; the headline is the mean over them."""

import ast
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from evaluation.scoring.foreign import (
    LMMS_EVAL,
    VLMEVALKIT,
    answered,
    measured,
    model_of_table,
    prediction_table,
    sample_log,
    sample_task,
)
from evaluation.scoring.protocol import AUTHORS
from evaluation.scoring.results import BenchmarkRun, ItemResult
from evaluation.scoring.stats import score
from evaluation.scoring.tables import Category, Table, by_categories, overall
from evaluation.tasks.reading import mvbench_is_right
from utils.errors import UserError

PROTOCOLS = {
    "livecc": (
        "start and end of the bounded tasks are ignored: the whole video is shown",
        "TVQA's folders of 3 frames a second are read as 2 a second",
        "the answer is the option letter with the highest logit after 'Answer:'",
    ),
    "official": (
        "16 frames, in the five bounded tasks of what lies between start and end",
        "TVQA's folders are read at their 3 frames a second",
        "the answer is what is written after 'Best option:('; its first word must be the option's, or part of it",
    ),
}
TASKS = (
    "Action Sequence", "Action Prediction", "Action Antonym", "Fine-grained Action", "Unexpected Action",
    "Object Existence", "Object Interaction", "Object Shuffle", "Moving Direction", "Action Localization",
    "Scene Transition", "Action Count", "Moving Count", "Moving Attribute", "State Change", "Fine-grained Pose",
    "Character Order", "Egocentric Navigation", "Episodic Reasoning", "Counterfactual Inference",
)  # fmt: skip
MEAN_OVER = ("task_type",)
SAMPLES, TABLE = "*samples_mvbench_*.jsonl", "*_MVBench*.tsv"
PUBLISHED = (SAMPLES, TABLE)
LEFT_THE_HUB = "Fine-grained Pose"  # its 200 videos of NTU RGB+D are gone since October 2024
BY_TASK = Category("task_type", "Task", TASKS)


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """The mean over tasks, with and without the task whose videos left the hub; each task."""
    head = overall("mean of tasks", results, MEAN_OVER)
    others = [result for result in results if result.tags.get("task_type") != LEFT_THE_HUB]
    if others and len(others) < len(results):
        head.rows.append(score(f"mean without {LEFT_THE_HUB}", others, MEAN_OVER))
    return [head, *by_categories(results, (BY_TASK,))]


def find_sets(folder: Path) -> list[Path]:
    """Folders of lmms-eval's samples, a file for each task, and VLMEvalKit's tables, each with all of them."""
    logs = {path.parent for path in folder.rglob(SAMPLES)}
    return sorted([*logs, *folder.rglob(TABLE)])


def read(path: Path) -> BenchmarkRun:
    """Samples of lmms-eval, a file or a folder of those of all tasks, or VLMEvalKit's table.

    Answers are read as the authors read them. Raises UserError where it is no such file.
    """
    parts = {"reading": AUTHORS, "denominator": AUTHORS}
    if path.is_dir() or path.suffix == ".jsonl":
        files = sorted(path.glob(SAMPLES)) if path.is_dir() else [path]
        results = [result for file in files for result in _samples(file)]
        model = path.name if path.is_dir() else path.parent.name
        return BenchmarkRun("mvbench", LMMS_EVAL, model, "", results, {"published_file": path.name}, parts)
    results = _table(path)
    model = model_of_table(path, "MVBench")
    return BenchmarkRun("mvbench", VLMEVALKIT, model, "", results, {"published_file": path.name}, parts)


def _samples(path: Path) -> Iterator[ItemResult]:
    task = TASK_NAMES.get(sample_task(path).removeprefix("mvbench_"))
    if task is None:
        raise UserError(f"{path}: its name tells none of MVBench's tasks; expected DATE_samples_mvbench_TASK.jsonl")
    for row in sample_log(path):
        found = measured(row, "pred_answer", "gt_answer")
        if found is None:
            raise UserError(f"{path}: sample {row['doc_id']} has no pred_answer and gt_answer: not a log of MVBench")
        # The task's questions are numbered from 0 in the order of its file, as everywhere.
        yield _result(task, int(row["doc_id"]) + 1, answered(found["pred_answer"]), str(found["gt_answer"]), "", "")


def _table(path: Path) -> list[ItemResult]:
    numbers: Counter[str] = Counter()
    results = []
    for row in prediction_table(path):
        task = TASK_NAMES.get(task_stem(str(row.get("task_type", ""))))
        if task is None:
            raise UserError(f"{path}: row {row['index']}: task_type {row.get('task_type')!r} is none of MVBench's")
        numbers[task] += 1
        options = row.get("candidates") or "[]"
        texts = [str(text) for text in (ast.literal_eval(options) if isinstance(options, str) else options)]
        answer = str(row["answer"])
        letter = chr(ord("A") + texts.index(answer)) if answer in texts else answer.strip("(). ")[:1]
        question = str(row.get("question", ""))
        results.append(_result(task, numbers[task], str(row["prediction"]), letter, answer, question))
    return results


def _result(task: str, number: int, response: str, letter: str, text: str, question: str) -> ItemResult:
    name, shown = f"{task_stem(task)}_{number}", {"question": question}
    if not response:
        shown["error"] = "the file has no response to it"
    value = float(bool(response) and mvbench_is_right(response, letter, text))
    return ItemResult(name, name, value, not response, {"task_type": task}, response or None, letter, shown)


def task_stem(task: str) -> str:
    """File stem of a task: Episodic Reasoning -> episodic_reasoning."""
    return task.lower().replace(" ", "_").replace("-", "_")


TASK_NAMES = {task_stem(task): task for task in TASKS}
