"""OVO-Bench's scores: twelve tasks in three groups; the headline is the mean of the groups' means over their tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from evaluation.scoring.results import ItemResult
from evaluation.scoring.tables import Category, Table, by_categories, overall
from utils.errors import UserError

PROTOCOLS = {
    "livecc": (
        "clips of CRR start when the question is asked, those of all other tasks at 0; they end at the query's time, "
        "but last a second at least, so the first query of CRR sees up to a second beyond its time",
        "frames up to the checkpoint's own limit",
        "the answer is the token with the highest logit: of the query's own letters, of Yes and No, or of 0 to 9, so a "
        "count of 10 or more cannot be given",
    ),
    "official": (
        "all clips start at 0 and end at the query's time, rounded up to a second",
        "at most 64 frames",
        "the answer is generated text: letters, Yes and No count where they occur in it, REC is all its digits joined; "
        "no answer is wrong",
    ),
}
GROUPS = {
    "backward": ("EPM", "ASI", "HLD"),
    "realtime": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "forward": ("REC", "SSR", "CRR"),
}
MEAN_OVER = ("group", "task")
PUBLISHED = ()
BY_GROUP = Category("group", "Group", tuple(GROUPS), mean_over=("task",))
BY_TASK = Category("task", "Task", tuple(task for tasks in GROUPS.values() for task in tasks))


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """The mean of the three groups; each group, the mean over its tasks; each task, the mean over its queries."""
    note = "mean over groups of the mean over each group's tasks"
    return [overall("mean of groups", results, MEAN_OVER, note), *by_categories(results, (BY_GROUP, BY_TASK))]


def read(path: Path) -> NoReturn:
    """No result files of this benchmark can be read."""
    raise UserError(f"{path}: OVO-Bench has no published result format here; give a *.result.json")
