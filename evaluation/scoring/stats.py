"""Statistics of scores: confidence intervals, comparisons of two runs, and floors that need no video.

Questions about one video are not independent, so error bars are clustered by video: a cluster's deviations are summed
before they are squared (Miller 2024, "Adding Error Bars to Evals", arXiv:2411.00640, section 2.2).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtr, stdtrit  # scipy.stats has the same, and takes a second longer to import

from evaluation.scoring.results import ItemResult

CONFIDENCE = 0.95
EXACT_CLUSTERS = 16  # up to so many, all flips are counted
N_FLIPS, FLIPS_AT_ONCE = 20_000, 1_000
ROUNDING = 1e-12  # what rounding leaves of nothing
LONGEST_ANSWER = 24  # characters of a constant answer that a floor's name shows

Group = tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95 % interval; None where the data cannot say how sure it is."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Floor:
    """Score that is reached without looking at a video. name: how."""

    name: str
    value: float


@dataclass(frozen=True)
class Score:
    """A named mean over n items, of which n_failed had no answer and count as 0. value, interval, floors: 0 to 1."""

    name: str
    value: float
    n: int
    n_failed: int
    interval: tuple[float, float] | None
    floors: tuple[Floor, ...] = ()

    @property
    def floor(self) -> Floor | None:
        """The highest of the floors."""
        return max(self.floors, key=lambda floor: floor.value, default=None)


@dataclass(frozen=True)
class Comparison:
    """Two runs on the items that both have.

    difference: of the second's score from the first's. wins, losses: items on which the second is better, worse.
    p_value: exact two-sided sign test of wins against losses, which takes items as independent. flip_p_value:
    two-sided sign-flip test of the difference, in which the items of a video change sides together. only_first,
    only_second: items that one run alone has; they are left out.
    """

    difference: Estimate
    n: int
    wins: int
    losses: int
    ties: int
    p_value: float
    flip_p_value: float
    only_first: int
    only_second: int


def estimate(
    values: Sequence[float],
    clusters: Sequence[str],
    groups: Sequence[Group] | None = None,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> Estimate:
    """The mean of values with its interval; with groups, the mean of group means.

    groups: a path for each value, such as (task,) or (group, task); groups weigh alike at every level, so a value's
    weight is w_i = 1 / (groups of its level) / ... / (values of its innermost group g). By linearisation
    SE^2 = C / (C - 1) * sum over the C clusters of (sum of w_i (v_i - mean_g))^2, and the interval takes the quantile
    of t with C - 1 degrees of freedom (Cameron & Miller 2015, "A Practitioner's Guide to Cluster-Robust Inference",
    section VI), clipped to bounds. One cluster has no interval. Where nothing varies, a mean at one of the bounds 0 and
    1 gets the exact binomial (Clopper-Pearson) interval of C trials, and any other mean none.
    """
    groups = groups or [()] * len(values)
    weights, means = _weights(groups), _means(values, groups)
    value = math.fsum(weight * v for weight, v in zip(weights, values, strict=True))
    sums: dict[str, float] = defaultdict(float)
    for weight, v, cluster, group in zip(weights, values, clusters, groups, strict=True):
        sums[cluster] += weight * (v - means[group])
    return Estimate(value, _interval(value, list(sums.values()), bounds))


def score(name: str, results: Sequence[ItemResult], mean_over: Sequence[str] = ()) -> Score:
    """The score of some items' results (at least one).

    mean_over: categories, outermost first, whose groups weigh alike: ("group", "task") is the mean over groups of the
    mean over each group's tasks.
    """
    groups = [_group(result, mean_over) for result in results]
    found = estimate([result.value for result in results], [result.cluster for result in results], groups)
    n_failed = sum(result.failed for result in results)
    return Score(name, found.value, len(results), n_failed, found.interval, _floors(results, groups))


def compare_results(
    first: Sequence[ItemResult], second: Sequence[ItemResult], mean_over: Sequence[str] = ()
) -> Comparison | None:
    """Compare two runs item by item; None where they have no item in common. mean_over: as in `score`."""
    before, after = ({result.id: result for result in results} for results in (first, second))
    shared = [name for name in before if name in after]
    if not shared:
        return None
    differences = [after[name].value - before[name].value for name in shared]
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    groups = [_group(before[name], mean_over) for name in shared]
    clusters = [before[name].cluster for name in shared]
    return Comparison(
        estimate(differences, clusters, groups, bounds=(-1.0, 1.0)),
        len(shared), wins, losses, len(shared) - wins - losses, sign_test(wins, losses),
        sign_flip_test([w * d for w, d in zip(_weights(groups), differences, strict=True)], clusters),
        len(before) - len(shared), len(after) - len(shared),
    )  # fmt: skip


def sign_test(wins: int, losses: int) -> float:
    """Exact two-sided p value of the sign test (binomial with p = 0.5)."""
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5)))


def sign_flip_test(shares: Sequence[float], clusters: Sequence[str]) -> float:
    """Two-sided p value of a sum whose clusters change signs as wholes: exact for few clusters, else of random flips.

    shares: each item's part of the sum. Under the hypothesis that both runs are alike, a cluster's sum is as likely as
    its opposite (Rosenbaum 2002, "Observational Studies", section 2.4).
    """
    sums: dict[str, float] = defaultdict(float)
    for share, cluster in zip(shares, clusters, strict=True):
        sums[cluster] += share
    moved = np.array([total for total in sums.values() if abs(total) > ROUNDING])
    if len(moved) == 0:
        return 1.0
    reached = abs(moved.sum()) - ROUNDING
    if len(moved) <= EXACT_CLUSTERS:
        signs = 1 - 2 * ((np.arange(1 << len(moved))[:, None] >> np.arange(len(moved))) & 1)
        return float((np.abs(signs @ moved) >= reached).mean())
    flips = np.random.default_rng(0)
    n_reached = 0
    for _ in range(N_FLIPS // FLIPS_AT_ONCE):
        signs = flips.integers(0, 2, (FLIPS_AT_ONCE, len(moved)), np.int8) * 2 - 1
        n_reached += int((np.abs(signs @ moved) >= reached).sum())
    return (1 + n_reached) / (1 + N_FLIPS)


def _group(result: ItemResult, mean_over: Sequence[str]) -> Group:
    return tuple(result.tags.get(category, "") for category in mean_over)


def _weights(groups: Sequence[Group]) -> list[float]:
    """Each value's weight: 1 / its group's size, times 1 / the number of groups at every level above it."""
    sizes = Counter(groups)
    below: dict[Group, set[Group]] = defaultdict(set)
    for group in sizes:
        for depth in range(len(group)):
            below[group[:depth]].add(group[: depth + 1])
    shares = {group: 1 / math.prod(len(below[group[:depth]]) for depth in range(len(group))) for group in sizes}
    return [shares[group] / sizes[group] for group in groups]


def _means(values: Sequence[float], groups: Sequence[Group]) -> dict[Group, float]:
    members: dict[Group, list[float]] = defaultdict(list)
    for value, group in zip(values, groups, strict=True):
        members[group].append(value)
    return {group: math.fsum(inside) / len(inside) for group, inside in members.items()}


def _interval(value: float, sums: list[float], bounds: tuple[float, float]) -> tuple[float, float] | None:
    n = len(sums)
    if n < 2:
        return None
    error = math.sqrt(n / (n - 1) * math.fsum(total * total for total in sums))
    if error < ROUNDING:
        return _unvaried(value, n, bounds)
    reach = t_quantile(n - 1) * error
    return max(bounds[0], value - reach), min(bounds[1], value + reach)


def _unvaried(value: float, n: int, bounds: tuple[float, float]) -> tuple[float, float] | None:
    """n successes or n failures out of n do not make a score certain (Clopper & Pearson 1934)."""
    doubt = 1 - ((1 - CONFIDENCE) / 2) ** (1 / n)
    if bounds != (0.0, 1.0) or 1e-9 < value < 1 - 1e-9:
        return None
    return (0.0, doubt) if value < 0.5 else (1 - doubt, 1.0)


def t_quantile(degrees: int) -> float:
    """The two-sided 95 % quantile of Student's t."""
    return float(stdtrit(degrees, (1 + CONFIDENCE) / 2))


def _floors(results: Sequence[ItemResult], groups: Sequence[Group]) -> tuple[Floor, ...]:
    """The best constant answer, the best constant answer of each group, and chance, as far as the results tell."""
    weights = _weights(groups)
    floors = []
    if all(isinstance(result.truth, str | int) for result in results):
        worth: dict[tuple[Group, str], list[float]] = defaultdict(list)
        for result, group, weight in zip(results, groups, weights, strict=True):
            worth[(), str(result.truth)].append(weight)
            if group:
                worth[group, str(result.truth)].append(weight)
        best = {group: max(_worths(worth, group)) for group, _ in worth}
        value, answer = best.pop(())
        floors.append(Floor(f"always {answer[:LONGEST_ANSWER]}", value))
        if len(best) > 1:
            floors.append(Floor("majority of each task", math.fsum(value for value, _ in best.values())))
    n_options = [_n_options(result) for result in results]
    if all(n_options):
        floors.append(Floor("chance", math.fsum(w / n for w, n in zip(weights, n_options, strict=True))))
    return tuple(floors)


def _worths(worth: dict[tuple[Group, str], list[float]], group: Group) -> list[tuple[float, str]]:
    """Score of each constant answer inside a group."""
    return [(math.fsum(weights), answer) for (where, answer), weights in worth.items() if where == group]


def _n_options(result: ItemResult) -> int:
    options = result.shown.get("options")
    return len(options) if isinstance(options, list | tuple) else 0
