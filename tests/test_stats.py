"""Error bars, floors and comparisons, against scipy, resampling and cases that can be worked out by hand."""

import random
import statistics

import pytest
import scipy.stats

from evaluation.scoring.results import ItemResult
from evaluation.scoring.stats import Floor, compare_results, estimate, score, sign_test, t_quantile


def outcome(name: str, value: float, cluster: str = "", truth=None, **tags: str) -> ItemResult:
    return ItemResult(name, cluster or name, value, tags=tags, truth=truth)


def half_width(interval: tuple[float, float]) -> float:
    return (interval[1] - interval[0]) / 2


def clustered_data(seed: int, n_clusters: int) -> list[tuple[float, str, tuple[str, ...]]]:
    """(value, cluster, (group, task)): 1 to 4 answers of a video that are alike, of tasks of unequal difficulty."""
    draw, rows = random.Random(seed), []
    for cluster in range(n_clusters):
        ease = draw.gauss(0, 0.25)
        for _ in range(draw.randint(1, 4)):
            group, task = draw.choice([("a", "1"), ("a", "2"), ("a", "2"), ("b", "3")])
            rows.append((float(draw.random() < 0.35 + 0.12 * int(task) + ease), str(cluster), (group, task)))
    return rows


def nested_mean(rows: list[tuple[float, str, tuple[str, ...]]], depth: int) -> float:
    """The mean of means, straightforwardly."""
    if depth == 0:
        return statistics.fmean(value for value, _, _ in rows)
    by_group: dict[tuple[str, ...], list] = {}
    for row in rows:
        by_group.setdefault(row[2][: 3 - depth], []).append(row)
    return statistics.fmean(nested_mean(inside, depth - 1) for inside in by_group.values())


def test_a_case_by_hand():
    # Deviations from 0.75, over 4 values: video a sums to (0.25 + 0.25) / 4, video b to (-0.75 + 0.25) / 4.
    found = estimate([1, 1, 0, 1], ["a", "a", "b", "b"])
    error = (2 / 1 * (0.125**2 + 0.125**2)) ** 0.5
    assert found.value == 0.75
    assert found.interval == (0.0, 1.0)  # one degree of freedom: 12.7 times an error of 0.25, clipped
    wide = estimate([1, 1, 0, 1], ["a", "a", "b", "b"], bounds=(-9, 9))
    assert half_width(wide.interval) == pytest.approx(12.706 * error, rel=1e-3)


@pytest.mark.parametrize("depth", [0, 2], ids=["mean", "mean of means"])
def test_the_error_is_that_of_resampled_videos(depth: int):
    rows = clustered_data(seed=5, n_clusters=150)
    values, clusters, groups = zip(*rows, strict=True)
    found = estimate(values, clusters, groups if depth else None)
    assert found.value == pytest.approx(nested_mean(rows, depth))
    by_cluster: dict[str, list] = {}
    for row in rows:
        by_cluster.setdefault(row[1], []).append(row)
    draw, videos = random.Random(7), list(by_cluster.values())
    means = []
    for _ in range(2000):
        means.append(nested_mean([row for video in draw.choices(videos, k=len(videos)) for row in video], depth))
    assert half_width(found.interval) / t_quantile(149) == pytest.approx(statistics.stdev(means), rel=0.06)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    def holds(seed: int) -> bool:
        rows = clustered_data(seed, n_clusters=25)
        values, clusters, _ = zip(*rows, strict=True)
        low, high = estimate(values, clusters).interval
        return low <= expected <= high

    expected = statistics.fmean(value for seed in range(500, 900) for value, _, _ in clustered_data(seed, 25))
    assert 0.93 <= statistics.fmean(map(holds, range(400))) <= 0.97


def test_without_clusters_the_interval_is_that_of_the_t_distribution():
    draw = random.Random(11)
    values = [draw.choice([0, 0, 0.5, 1]) for _ in range(37)]
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert estimate(values, range(37)).interval == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_a_score_is_clustered_by_video():
    """Three questions on each video: answers that go together are one draw each, as scipy resamples them."""
    draw = random.Random(13)
    right = [draw.random() < 0.6 for _ in range(80)]
    outcomes = [
        outcome(f"{v}-{i}", float(is_right), cluster=str(v)) for v, is_right in enumerate(right) for i in range(3)
    ]
    found = score("", outcomes)
    resampled = scipy.stats.bootstrap((right,), statistics.fmean, vectorized=False, rng=1, n_resamples=2000)
    assert half_width(found.interval) == pytest.approx(1.99 * resampled.standard_error, rel=0.06)
    apart = score("", [outcome(one.id, one.value) for one in outcomes])
    assert half_width(apart.interval) < 0.65 * half_width(found.interval)


def test_answers_that_repeat_within_a_video_make_nothing_surer():
    values, clusters = [0, 1, 1, 0, 1, 1], list("abcdef")
    alone, tripled = estimate(values, clusters), estimate(values * 3, clusters * 3)
    assert tripled.value == pytest.approx(alone.value)
    assert tripled.interval == pytest.approx(alone.interval)
    assert half_width(estimate(values * 3, range(18)).interval) < half_width(alone.interval)


def test_one_video_has_no_interval():
    assert estimate([1, 0, 1], ["a", "a", "a"]).interval is None


def test_all_right_is_not_certain():
    for n_right in (0, 10):
        exact = scipy.stats.binomtest(n_right, 10).proportion_ci(0.95, "exact")
        found = estimate([float(n_right > 0)] * 10, range(10)).interval
        assert found == pytest.approx((exact.low, exact.high), abs=1e-9)
    # Tasks that are each all right or all wrong: nothing varies inside them, and the mean is at no bound.
    assert estimate([1, 1, 0, 0], range(4), [("x",), ("x",), ("y",), ("y",)]).interval is None


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 30, 1000])
def test_quantiles_of_t(degrees: int):
    assert t_quantile(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=1e-9)


def test_groups_weigh_alike_at_every_level():
    outcomes = [
        outcome("1", 1, group="a", task="x"),
        outcome("2", 0, group="a", task="y"),
        outcome("3", 0, group="a", task="y"),
        outcome("4", 1, group="b", task="z"),
    ]
    assert score("all", outcomes).value == 0.5
    assert score("all", outcomes, ("task",)).value == pytest.approx(2 / 3)
    assert score("all", outcomes, ("group", "task")).value == pytest.approx(3 / 4)


def test_failed_items_are_counted_and_stay_in_the_denominator():
    found = score("all", [outcome("1", 1), ItemResult("2", "2", 0.0, failed=True)])
    assert (found.value, found.n, found.n_failed) == (0.5, 2, 1)


def test_floors():
    truths = [("x", "Yes"), ("x", "Yes"), ("x", "No"), ("y", 3), ("y", 3), ("y", 4), ("y", 3)]
    outcomes = [outcome(str(i), 0, truth=truth, task=task) for i, (task, truth) in enumerate(truths)]
    assert score("x", outcomes[:3]).floors == (Floor("always Yes", pytest.approx(2 / 3)),)
    found = score("all", outcomes, ("task",))
    assert found.floors == (
        Floor("always 3", pytest.approx(3 / 8)),
        Floor("majority of each task", pytest.approx((2 / 3 + 3 / 4) / 2)),
    )
    assert found.floor.name == "majority of each task"


def test_chance_is_known_where_options_are():
    outcomes = [ItemResult(str(n), str(n), 0, truth="A", shown={"options": list(range(n))}) for n in (2, 4)]
    assert score("all", outcomes).floors[-1] == Floor("chance", pytest.approx((1 / 2 + 1 / 4) / 2))
    assert score("one", [outcome("1", 1)]).floors == ()


def test_runs_are_compared_on_the_items_that_both_have():
    first = [outcome("1", 1), outcome("2", 0), outcome("3", 0), outcome("4", 0.5), outcome("gone", 1)]
    second = [outcome("4", 1), outcome("1", 0), outcome("2", 1), outcome("3", 0), outcome("new", 0), outcome("n2", 0)]
    found = compare_results(first, second)
    assert (found.n, found.wins, found.losses, found.ties) == (4, 2, 1, 1)
    assert (found.only_first, found.only_second) == (1, 2)
    assert found.difference.value == pytest.approx(0.5 / 4)
    assert found.p_value == 1.0
    backwards = compare_results(second, first)
    assert backwards.difference.value == -found.difference.value
    assert backwards.difference.interval == tuple(-end for end in reversed(found.difference.interval))
    assert compare_results(first, [outcome("other", 1)]) is None


def test_a_pair_is_surer_than_two_scores():
    """What both runs find hard is not part of their difference."""
    draw = random.Random(3)
    base = [float(draw.random() < 0.5) for _ in range(200)]
    better = [max(value, float(draw.random() < 0.1)) for value in base]
    runs = [[outcome(str(i), v) for i, v in enumerate(values)] for values in (base, better)]
    paired = compare_results(*runs).difference
    assert paired.interval[0] > 0
    theirs = scipy.stats.ttest_rel(better, base).confidence_interval(0.95)
    assert paired.interval == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert half_width(paired.interval) < 0.6 * half_width(score("", runs[0]).interval)


def test_a_comparison_is_clustered_by_video():
    draw = random.Random(5)
    gains = [draw.choice([0, 0, 1]) for _ in range(60)]
    names = [(f"{v}-{i}", str(v), gain) for v, gain in enumerate(gains) for i in range(4)]
    first = [outcome(name, 0, cluster=video) for name, video, _ in names]
    second = [outcome(name, gain, cluster=video) for name, video, gain in reversed(names)]
    theirs = scipy.stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    assert compare_results(first, second).difference.interval == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_a_comparison_weighs_groups_as_the_score_does():
    values = {"x": [(0, 1)], "y": [(0, 0), (1, 1), (1, 1)]}
    pairs = [(f"{task}{i}", task, pair) for task, inside in values.items() for i, pair in enumerate(inside)]
    first, second = ([outcome(name, pair[run], task=task) for name, task, pair in pairs] for run in (0, 1))
    assert compare_results(first, second).difference.value == pytest.approx(1 / 4)
    assert compare_results(first, second, ("task",)).difference.value == pytest.approx(1 / 2)


def test_equal_runs_do_not_differ():
    outcomes = [outcome(str(i), i % 2) for i in range(6)]
    found = compare_results(outcomes, outcomes)
    assert (found.difference.value, found.difference.interval, found.p_value) == (0, None, 1.0)


def test_sign_test():
    assert sign_test(0, 0) == 1.0
    for wins, losses in ((5, 0), (8, 2), (2, 8), (31, 17), (40, 40)):
        assert sign_test(wins, losses) == pytest.approx(scipy.stats.binomtest(wins, wins + losses).pvalue)
    assert 0 < sign_test(2000, 500) < 1e-100
