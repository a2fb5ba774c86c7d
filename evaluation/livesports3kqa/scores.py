"""LiveSports-3K-QA's scores: accuracy overall, per question type, and on the questions that need text to be read."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from evaluation.scoring.results import ItemResult
from evaluation.scoring.stats import score
from evaluation.scoring.tables import Category, Table, by_categories, overall
from utils.errors import UserError

PROTOCOLS = {
    "livecc": ("the answer is the option letter with the highest logit after 'Answer:', as the authors do it",),
    "official": (
        "the answer is written, and the first option letter that stands alone in it counts: nobody else's way to read",
    ),
}
MEAN_OVER = ()
PUBLISHED = ()
CATEGORIES = (Category("q_type", "Question type"),)


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """Accuracy over all questions; per question type; on the OCR subset and on the rest."""
    tables = [overall("accuracy", results), *by_categories(results, CATEGORIES)]
    subsets = {name: [o for o in results if o.tags.get("ocr") == ocr] for ocr, name in (("1", "OCR"), ("0", "no OCR"))}
    rows = [score(name, inside) for name, inside in subsets.items() if inside]
    return [*tables, Table("Reading text", rows)] if rows else tables


def read(path: Path) -> NoReturn:
    """No result files of this benchmark are published."""
    raise UserError(f"{path}: LiveSports-3K-QA has no published result format; give a *.result.json")
