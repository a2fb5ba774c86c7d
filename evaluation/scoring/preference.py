"""Pairwise judgements: how often a commentary is preferred, and what the judge prefers whatever it reads.

Every event is judged twice, "ab" with the model's commentary first and "ba" with the baseline's first. An outcome's
value is the share of the two that the model wins. Its `shown` holds what statistics need: ab and ba ("model",
"baseline", or a reason why nobody won, such as "tie" or "refusal"), and commentary and baseline, the two texts, where
they are known.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from evaluation.scoring.outcome import Outcome
from evaluation.scoring.stats import Floor, Score, score
from evaluation.scoring.tables import Table, overall

ORDERS = ("ab", "ba")
DECIDED = ("model", "baseline")
QUARTERS = ("shortest quarter", "second quarter", "third quarter", "longest quarter")

Measure = Callable[[Outcome], float | None]


def summary(outcomes: Sequence[Outcome]) -> list[Table]:
    """Win rate (0.5 would be the baseline's equal), the judge's biases, and win rate by relative length."""
    tables = [overall("win rate", outcomes, note="wins / (2 x events); the baseline's equal has 50")]
    return [*tables, *(table for table in (judge_table(outcomes), length_table(outcomes)) if table.rows)]


def judge_table(outcomes: Sequence[Outcome]) -> Table:
    """What the judge does whatever it reads; judgements without a winner are in the last rows only."""
    judged = [outcome for outcome in outcomes if "ab" in outcome.shown]
    rows = [
        _share("the one shown first wins", judged, _first_wins, Floor("no bias", 0.5)),
        _share("both orders agree", judged, _agrees),
        _share("model wins when first", judged, lambda outcome: _wins(outcome, "ab")),
        _share("model wins when second", judged, lambda outcome: _wins(outcome, "ba")),
        *(
            _share(f"no winner: {reason}", judged, lambda outcome, reason=reason: _ends(outcome, reason))
            for reason in _reasons(judged)
        ),
    ]
    return Table("Judge", [row for row in rows if row])


def length_table(outcomes: Sequence[Outcome]) -> Table:
    """Win rate by quartile of the commentary's length relative to the baseline's, in words."""
    known = sorted(
        (outcome for outcome in outcomes if length_ratio(outcome) is not None),
        key=lambda outcome: (length_ratio(outcome), outcome.id),
    )
    rows, ranges = [], []
    for i, name in enumerate(QUARTERS):
        inside = known[i * len(known) // len(QUARTERS) : (i + 1) * len(known) // len(QUARTERS)]
        if inside:
            ranges.append(f"{length_ratio(inside[0]):.2f} to {length_ratio(inside[-1]):.2f}")
            rows.append(replace(score(name, inside), floors=()))
    return Table(
        "Win rate by length relative to the baseline", rows, f"words, times the baseline's: {', '.join(ranges)}"
    )


def length_ratio(outcome: Outcome) -> float | None:
    """Words of the commentary to words of the baseline; None where a text is not known."""
    commentary, baseline = (outcome.shown.get(name) for name in ("commentary", "baseline"))
    if not isinstance(commentary, str) or not isinstance(baseline, str):
        return None
    return len(commentary.split()) / max(1, len(baseline.split()))


def _first_wins(outcome: Outcome) -> float | None:
    """Of the decided judgements of an event, how many the one shown first won."""
    decided = [(order, outcome.shown[order]) for order in ORDERS if outcome.shown[order] in DECIDED]
    first = {"ab": "model", "ba": "baseline"}
    return sum(winner == first[order] for order, winner in decided) / len(decided) if decided else None


def _agrees(outcome: Outcome) -> float | None:
    winners = [outcome.shown[order] for order in ORDERS]
    return float(winners[0] == winners[1]) if all(winner in DECIDED for winner in winners) else None


def _wins(outcome: Outcome, order: str) -> float:
    return float(outcome.shown[order] == "model")


def _ends(outcome: Outcome, reason: str) -> float:
    return sum(outcome.shown[order] == reason for order in ORDERS) / len(ORDERS)


def _reasons(outcomes: Sequence[Outcome]) -> list[str]:
    ends = Counter(outcome.shown[order] for outcome in outcomes for order in ORDERS)
    return [reason for reason, _ in ends.most_common() if reason not in DECIDED]


def _share(name: str, outcomes: Sequence[Outcome], measure: Measure, floor: Floor | None = None) -> Score | None:
    """The mean of a measure over the outcomes that have it."""
    measured = [replace(o, value=value, truth=None, shown={}) for o in outcomes if (value := measure(o)) is not None]
    return replace(score(name, measured), floors=(floor,) if floor else ()) if measured else None
