"""Questions in mid-stream about matches of the nano world: right word by word, by kind of question."""

from collections.abc import Sequence
from pathlib import Path

from evaluation.scoring.results import BenchmarkRun, ItemResult
from evaluation.scoring.tables import Category, Table, by_category, overall

PROTOCOLS = {"nano": ("an answer is right where every word is",)}
MEAN_OVER = ()
PUBLISHED = ()


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """Overall and by kind of question."""
    return [overall("answers right", results), by_category(results, Category("kind", "Kind of question"))]


def read(path: Path) -> BenchmarkRun:
    """The results that this project writes; nothing was ever published."""
    return BenchmarkRun.read(path)
