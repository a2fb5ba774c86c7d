"""A judge of the nano world's commentaries that needs no model: rules read the events out of the words."""

from collections import Counter
from typing import Any, ClassVar

from evaluation.judge.judge import CommentaryPair
from evaluation.nano.scoring import f1_of_counts, read_steps


class RuleJudge:
    """Prefers the commentary whose events are more like the human's, whatever the order in which they are shown.

    An event is a kind and a team (data/nano/parser.py); the measure is F1 over both commentaries' events.
    """

    settings: ClassVar[dict[str, Any]] = {"judge": "nano rules", "events": "kind and team, F1"}

    def __call__(self, pair: CommentaryPair) -> str:
        """Text of the verdict."""
        true = events(pair.human)
        first, second = (_likeness(events(text), true) for text in (pair.first, pair.second))
        if first == second:
            return "It is a tie."
        return "Commentary A" if first > second else "Commentary B"


def events(text: str) -> Counter[tuple[str, str]]:
    """The events that a commentary speaks of: (kind, team) and how often."""
    lines = read_steps([(0.0, text.removesuffix("..."))], 0.0).events
    return Counter((line.said.kind, line.said.team) for line in lines)


def _likeness(spoken: Counter, true: Counter) -> float:
    return f1_of_counts((spoken & true).total(), spoken.total(), true.total())
