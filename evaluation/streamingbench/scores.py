"""StreamingBench's scores, real-time part: accuracy overall and per task type."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from evaluation.scoring.results import ItemResult
from evaluation.scoring.tables import Category, Table, by_categories, overall
from utils.errors import UserError

PROTOCOLS = {
    "livecc": (
        "all of the video up to the question is shown",
        "the answer is the option letter with the highest logit after 'Answer:'",
    ),
    "official": ("the last 60 seconds before the question are shown", "the answer is written and begins with a letter"),
}
TASKS = (
    "Object Perception", "Causal Reasoning", "Clips Summarize", "Attribute Perception", "Event Understanding",
    "Text-Rich Understanding", "Prospective Reasoning", "Spatial Understanding", "Action Perception", "Counting",
)  # fmt: skip
MEAN_OVER = ()
PUBLISHED = ()
BY_TASK = Category("task_type", "Task type", TASKS)


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """Accuracy over all questions; each task type."""
    return [overall("accuracy", results), *by_categories(results, (BY_TASK,))]


def read(path: Path) -> NoReturn:
    """No result files of this benchmark can be read."""
    raise UserError(f"{path}: StreamingBench has no published result format here; give a *.result.json")
