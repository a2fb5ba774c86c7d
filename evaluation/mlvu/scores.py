"""MLVU's scores, multiple-choice tasks: M-Avg, the mean over the tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from evaluation.scoring.results import ItemResult
from evaluation.scoring.tables import Category, Table, by_categories, overall
from utils.errors import UserError

PROTOCOLS = {
    "livecc": ("the answer is the option letter with the highest logit after 'Answer:'",),
    "official": (
        "the answer is what is written after 'Best Option: (': what stands before its first bracket, or all of it",
        "the authors fix no frames and sample at temperature 0.1; here decoding is greedy",
    ),
}
# In the order of the benchmark's files (1_plotQA.json); 8_sub_scene and 9_summary are written and judged elsewhere.
TASKS = ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning")
MEAN_OVER = ("task_type",)
PUBLISHED = ()


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """The mean over tasks; each task."""
    return [overall("M-Avg", results, MEAN_OVER), *by_categories(results, (Category("task_type", "Task", TASKS),))]


def read(path: Path) -> NoReturn:
    """No result files of this benchmark can be read."""
    raise UserError(f"{path}: MLVU has no published result format here; give a *.result.json")
