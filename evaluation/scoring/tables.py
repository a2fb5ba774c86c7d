"""Scores in tables: overall, and for each group of each category that a benchmark counts."""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.scoring.outcome import Outcome
from evaluation.scoring.stats import Score, score


@dataclass(frozen=True)
class Table:
    """Scores under a title. note: what a reader must know to read them."""

    title: str
    rows: list[Score]
    note: str = ""


@dataclass(frozen=True)
class Category:
    """A tag by which outcomes are counted. order: its groups as they are listed; others follow as they come.

    mean_over: categories inside, whose groups weigh alike in a row (stats.score).
    """

    tag: str
    title: str
    order: tuple[str, ...] = ()
    mean_over: tuple[str, ...] = ()


def overall(name: str, outcomes: Sequence[Outcome], mean_over: Sequence[str] = (), note: str = "") -> Table:
    """The table of the headline."""
    return Table("Overall", [score(name, outcomes, mean_over)], note)


def by_category(outcomes: Sequence[Outcome], category: Category) -> Table:
    """A row for every group of a category that has outcomes; outcomes without the tag are in none."""
    groups: dict[str, list[Outcome]] = {name: [] for name in category.order}
    for outcome in outcomes:
        if category.tag in outcome.tags:
            groups.setdefault(outcome.tags[category.tag], []).append(outcome)
    rows = [score(name, members, category.mean_over) for name, members in groups.items() if members]
    return Table(category.title, rows)


def by_categories(outcomes: Sequence[Outcome], categories: Sequence[Category]) -> list[Table]:
    """The tables of these categories; one that no outcome is tagged with is left out."""
    tables = [by_category(outcomes, category) for category in categories]
    return [table for table in tables if table.rows]
