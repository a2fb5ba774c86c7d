"""Questions in mid-stream about matches of the nano world: right word by word, by kind of question."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.scoring.outcome import Outcome
from evaluation.scoring.result import Result
from evaluation.scoring.tables import Category, Table, by_category, overall

PROTOCOLS = {"nano": ("an answer is right where every word is",)}
MEAN_OVER = ()
PUBLISHED = ()


def summary(outcomes: Sequence[Outcome]) -> list[Table]:
    """Overall and by kind of question."""
    return [overall("answers right", outcomes), by_category(outcomes, Category("kind", "Kind of question"))]


def read(path: Path) -> Result:
    """The results that this project writes; nothing was ever published."""
    return Result.read(path)
