"""The benchmarks by name: each is a folder of evaluation/ whose scores.py says how its items' results are counted."""

import difflib
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from evaluation.scoring.results import BenchmarkRun, ItemResult
from evaluation.scoring.tables import Table
from utils.errors import UserError

FOLDER = Path(__file__).parents[1]


class Scores(Protocol):
    """Contents of every scores.py.

    PROTOCOLS: protocol -> how it differs from the other one. MEAN_OVER: categories whose groups weigh alike in the
    headline (stats.score). PUBLISHED: patterns of published result files, for `read`. summary: tables, the first row
    of the first is the headline. read: a published file as a result; raises UserError where it is none. A module may
    also have `headline_problem` (results -> why there is no headline, "" where there is one) and `find_sets` (folder ->
    what `read` takes in it, for results that are several files).
    """

    PROTOCOLS: dict[str, tuple[str, ...]]
    MEAN_OVER: tuple[str, ...]
    PUBLISHED: tuple[str, ...]
    summary: Callable[[Sequence[ItemResult]], list[Table]]
    read: Callable[[Path], BenchmarkRun]


def benchmark_names() -> list[str]:
    """All benchmarks."""
    return sorted(path.parent.name for path in FOLDER.glob("*/scores.py"))


def scores_of(benchmark: str) -> Scores:
    """The module that counts a benchmark's item results. Raises UserError for a name that is none."""
    names = benchmark_names()
    if benchmark not in names:
        near = difflib.get_close_matches(benchmark, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise UserError(f"{benchmark}: no such benchmark{hint} There are {', '.join(names)}")
    return importlib.import_module(f"evaluation.{benchmark}.scores")
