"""LongVideoBench's scores: accuracy, by length of the video and by kind of question."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from evaluation.scoring.results import ItemResult
from evaluation.scoring.tables import Category, Table, by_categories, overall
from utils.errors import UserError

PROTOCOLS = {
    "livecc": ("the answer is the option letter with the highest logit after 'Answer:'", "subtitles are not shown"),
    "official": (
        "the answer is written, and the first of A to E in it counts; the authors guess where there is none",
        "subtitles are not shown, where the authors put them between the frames",
    ),
}
MEAN_OVER = ()
PUBLISHED = ()
CATEGORIES = (
    Category("duration_group", "Length in seconds", ("15", "60", "600", "3600")),
    Category("question_category", "Kind of question"),
)


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """Accuracy over all questions; by length; by kind."""
    return [overall("accuracy", results), *by_categories(results, CATEGORIES)]


def read(path: Path) -> NoReturn:
    """No result files of this benchmark can be read."""
    raise UserError(f"{path}: LongVideoBench has no published result format here; give a *.result.json")
