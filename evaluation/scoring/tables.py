"""Scores in tables: overall, and for each group of each category that a benchmark counts."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.scoring.results import ItemResult
from evaluation.scoring.stats import Score, score


@dataclass(frozen=True)
class Table:
    """Scores under a title. note: what a reader must know to read them."""

    title: str
    rows: list[Score]
    note: str = ""


@dataclass(frozen=True)
class Category:
    """A tag by which items are counted. order: its groups as they are listed; others follow as they come.

    mean_over: categories inside, whose groups weigh alike in a row (stats.score).
    """

    tag: str
    title: str
    order: tuple[str, ...] = ()
    mean_over: tuple[str, ...] = ()


def overall(name: str, results: Sequence[ItemResult], mean_over: Sequence[str] = (), note: str = "") -> Table:
    """The table of the headline."""
    return Table("Overall", [score(name, results, mean_over)], note)


def by_category(results: Sequence[ItemResult], category: Category) -> Table:
    """A row for every group of a category that has items; items without the tag are in none."""
    groups: dict[str, list[ItemResult]] = {name: [] for name in category.order}
    for result in results:
        if category.tag in result.tags:
            groups.setdefault(result.tags[category.tag], []).append(result)
    rows = [score(name, members, category.mean_over) for name, members in groups.items() if members]
    return Table(category.title, rows)


def by_categories(results: Sequence[ItemResult], categories: Sequence[Category]) -> list[Table]:
    """The tables of these categories; one that no item is tagged with is left out."""
    tables = [by_category(results, category) for category in categories]
    return [table for table in tables if table.rows]
