"""LVBench's scores: accuracy, and by kind of question; a question may be of several kinds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from evaluation.scoring.results import ItemResult
from evaluation.scoring.stats import score
from evaluation.scoring.tables import Table, overall
from utils.errors import UserError

PROTOCOLS = {
    "livecc": ("the answer is the option letter with the highest logit after 'Answer:'",),
    "official": ("the answer is written: the first character in its brackets, or of its first word, counts",),
}
KINDS = (
    "key information retrieval", "event understanding", "summarization", "entity recognition", "reasoning",
    "temporal grounding",
)  # fmt: skip
MEAN_OVER = ()
PUBLISHED = ()


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """Accuracy over all questions; over those of each kind."""
    inside = {kind: [result for result in results if f"is {kind}" in result.tags] for kind in KINDS}
    rows = [score(kind, members) for kind, members in inside.items() if members]
    return [overall("accuracy", results), *([Table("Kind of question", rows)] if rows else [])]


def read(path: Path) -> NoReturn:
    """No result files of this benchmark can be read."""
    raise UserError(f"{path}: LVBench has no published result format here; give a *.result.json")
