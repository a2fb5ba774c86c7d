"""Scores of pairwise judgements: the win rate of a commentary, and the judge's own biases.

Every event is judged twice, "ab" with the model's commentary first and "ba" with the baseline's first. An item's
value is the share of the two that the model wins. Its `shown` holds what statistics need: ab and ba ("model",
"baseline", or a reason why nobody won, such as "tie" or "refusal"), and commentary and baseline, the two texts, where
they are known.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from evaluation.scoring.results import ItemResult
from evaluation.scoring.stats import Floor, Score, score
from evaluation.scoring.tables import Table, overall

ORDERS = ("ab", "ba")
DECIDED = ("model", "baseline")
VERDICTS = (*DECIDED, "tie")  # published judgements say "tie" of everything without a winner
MOST_WITHOUT_VERDICT = 0.03  # share of judgements; beyond it a win rate says more of the failures than of the model
PRINTED = "in print, judge and prompt move one model's win rate by 6 points and more: 41.5, 45.6, 47.2 and 54.4"
QUARTERS = ("shortest quarter", "second quarter", "third quarter", "longest quarter")

Measure = Callable[[ItemResult], float | None]


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """Win rate beside the baseline's (the rest has no winner), the judge's biases, and win rate by relative length."""
    note = f"wins / (2 x events); the baseline wins {baseline_share(results):.2%}, and the rest has no winner"
    tables = [overall("win rate", results, note=note)]
    return [*tables, *(table for table in (judge_table(results), length_table(results)) if table.rows)]


def headline_problem(results: Sequence[ItemResult]) -> str:
    """Why there is no win rate to speak of; "" where there is one."""
    share = share_without_verdict(results)
    if share <= MOST_WITHOUT_VERDICT:
        return ""
    return (
        f"{share:.1%} of the judgements have no verdict (failed, refused or unparsable), and at most "
        f"{MOST_WITHOUT_VERDICT:.0%} may: look at the verdicts in the rows, mend the judge, and run again"
    )


def share_without_verdict(results: Sequence[ItemResult]) -> float:
    """Share of the judgements that name neither a winner nor a tie."""
    without = sum(result.shown.get(order, "failed") not in VERDICTS for result in judged(results) for order in ORDERS)
    return without / max(1, len(ORDERS) * len(results))


def baseline_share(results: Sequence[ItemResult]) -> float:
    """Share of the judgements that the baseline wins."""
    won = sum(result.shown[order] == "baseline" for result in judged(results) for order in ORDERS)
    return won / max(1, len(ORDERS) * len(results))


def judged(results: Sequence[ItemResult]) -> list[ItemResult]:
    """Results that say how each order ended."""
    return [result for result in results if all(order in result.shown for order in ORDERS)]


def judge_table(results: Sequence[ItemResult]) -> Table:
    """The judge's biases, independent of the texts; judgements without a winner are in the last rows only."""
    known = judged(results)
    rows = [
        _share("the one shown first wins", known, _first_wins, Floor("no bias", 0.5)),
        _share("both orders agree", known, _agrees),
        _share("model wins when first", known, lambda result: _wins(result, "ab")),
        _share("model wins when second", known, lambda result: _wins(result, "ba")),
        *(
            _share(f"no winner: {reason}", known, lambda result, reason=reason: _ends(result, reason))
            for reason in _reasons(known)
        ),
    ]
    return Table("Judge", [row for row in rows if row])


def length_table(results: Sequence[ItemResult]) -> Table:
    """Win rate by quartile of the commentary's length relative to the baseline's, in words."""
    known = sorted(
        (result for result in results if length_ratio(result) is not None),
        key=lambda result: (length_ratio(result), result.id),
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


def length_ratio(result: ItemResult) -> float | None:
    """Words of the commentary to words of the baseline; None where a text is not known."""
    commentary, baseline = (result.shown.get(name) for name in ("commentary", "baseline"))
    if not isinstance(commentary, str) or not isinstance(baseline, str):
        return None
    return len(commentary.split()) / max(1, len(baseline.split()))


def _first_wins(result: ItemResult) -> float | None:
    """Share of an event's decided judgements that the one shown first won."""
    decided = [(order, result.shown[order]) for order in ORDERS if result.shown[order] in DECIDED]
    first = {"ab": "model", "ba": "baseline"}
    return sum(winner == first[order] for order, winner in decided) / len(decided) if decided else None


def _agrees(result: ItemResult) -> float | None:
    winners = [result.shown[order] for order in ORDERS]
    return float(winners[0] == winners[1]) if all(winner in DECIDED for winner in winners) else None


def _wins(result: ItemResult, order: str) -> float:
    return float(result.shown[order] == "model")


def _ends(result: ItemResult, reason: str) -> float:
    return sum(result.shown[order] == reason for order in ORDERS) / len(ORDERS)


def _reasons(results: Sequence[ItemResult]) -> list[str]:
    ends = Counter(result.shown[order] for result in results for order in ORDERS)
    return [reason for reason, _ in ends.most_common() if reason not in DECIDED]


def _share(name: str, results: Sequence[ItemResult], measure: Measure, floor: Floor | None = None) -> Score | None:
    """The mean of a measure over the results that have it."""
    measured = [replace(o, value=value, truth=None, shown={}) for o in results if (value := measure(o)) is not None]
    return replace(score(name, measured), floors=(floor,) if floor else ()) if measured else None
