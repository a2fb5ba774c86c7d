"""ProactiveVideoQA's scores: PAUC, how early within its time how much of each true answer was said (2507.09313).

A true answer has a time span. Before anything is said in it the level is START; with each thing said there it becomes
what a judge makes of all that was said so far, 0 to 2. PAUC is the area under that line, as a share of the largest
one. `omega` moves what was said towards the start of the span: 0 punishes delay in full, 1 not at all.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from evaluation.scoring.results import ItemResult
from evaluation.scoring.stats import score
from evaluation.scoring.tables import Category, Table, by_categories, overall
from utils.errors import UserError

PROTOCOLS = {
    "stream": (
        "the question is what the stream is told at its start, and what it says of itself are its answers",
        "the judge's request is in this project's words; the authors' judges were other models",
    ),
}
MEAN_OVER = ()
PUBLISHED = ()
OMEGAS = (0.0, 0.5, 1.0)
HEADLINE_OMEGA = 0.5
START, BEST = 0.5, 2.0
BY_TASK = Category("task", "Kind of videos", ("EGO", "TV", "VAD", "WEB"))


def pauc(points: Sequence[tuple[float, float]], span: tuple[float, float], omega: float = HEADLINE_OMEGA) -> float:
    """Area under the level of what was said, 0 to 1. points: (second, level 0 to 2); span: the true answer's time."""
    length = span[1] - span[0]
    if not points or length <= 0:
        return START / BEST
    at_s, level, area = 0.0, START, 0.0
    for second, after in sorted(points):
        moved = (second - span[0]) * (1 - omega)
        area += (moved - at_s) * level
        at_s, level = moved, after
    return (area + (length - at_s) * level) / (length * BEST)


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """PAUC at omega 0.5, by kind of videos; at the other omegas."""
    rows = [score(f"omega {omega:g}", [_at(result, omega) for result in results]) for omega in OMEGAS]
    tables = [overall("PAUC", results), *by_categories(results, (BY_TASK,))]
    return [*tables, Table("PAUC by omega", rows)] if any("points" in result.shown for result in results) else tables


def _at(result: ItemResult, omega: float) -> ItemResult:
    points = [(second, level) for second, level in result.shown.get("points", ())]
    value = 0.0 if result.failed else pauc(points, tuple(result.shown.get("span", (0.0, 0.0))), omega)
    return replace(result, value=value, truth=None, shown={})


def read(path: Path) -> NoReturn:
    """No result files of this benchmark can be read."""
    raise UserError(f"{path}: ProactiveVideoQA has no published result format here; give a *.result.json")
