"""MVBench's scores: twenty tasks; the headline is the mean over them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from evaluation.scoring.results import ItemResult
from evaluation.scoring.tables import Category, Table, by_categories, overall
from utils.errors import UserError

PROTOCOLS = {
    "livecc": (
        "start and end of the bounded tasks are ignored: the whole video is shown",
        "TVQA's folders of 3 frames a second are read as 2 a second",
    ),
    "official": (
        "the five bounded tasks show only what lies between start and end",
        "TVQA's folders are read at their 3 frames a second",
    ),
}
TASKS = (
    "Action Sequence", "Action Prediction", "Action Antonym", "Fine-grained Action", "Unexpected Action",
    "Object Existence", "Object Interaction", "Object Shuffle", "Moving Direction", "Action Localization",
    "Scene Transition", "Action Count", "Moving Count", "Moving Attribute", "State Change", "Fine-grained Pose",
    "Character Order", "Egocentric Navigation", "Episodic Reasoning", "Counterfactual Inference",
)  # fmt: skip
MEAN_OVER = ("task_type",)
PUBLISHED = ()
BY_TASK = Category("task_type", "Task", TASKS)


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """The mean over tasks; each task."""
    return [overall("mean of tasks", results, MEAN_OVER), *by_categories(results, (BY_TASK,))]


def read(path: Path) -> NoReturn:
    """No result files of this benchmark can be read."""
    raise UserError(f"{path}: MVBench has no published result format here; give a *.result.json")
