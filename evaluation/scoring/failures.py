"""Items without an answer, by cause."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.scoring.outcome import Outcome

N_EXAMPLES = 5
UNKNOWN = "no cause is kept"


@dataclass(frozen=True)
class Cause:
    """n items for the same reason; text: the error of the first of them; items: names of the first few."""

    text: str
    n: int
    items: list[str]


def causes_of(outcomes: Sequence[Outcome]) -> list[Cause]:
    """Causes, the most frequent first. Errors that differ only in paths and numbers are one cause."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.failed:
            groups.setdefault(_kind(_error(outcome)), []).append(outcome)
    causes = [Cause(_error(g[0]), len(g), [outcome.id for outcome in g[:N_EXAMPLES]]) for g in groups.values()]
    return sorted(causes, key=lambda cause: -cause.n)


def _error(outcome: Outcome) -> str:
    return str(outcome.shown.get("error") or UNKNOWN)


def _kind(error: str) -> str:
    return re.sub(r"\S*/\S*|'[^']*'|\d+(\.\d+)?", "*", error)
