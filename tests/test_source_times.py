"""Times of a live source's frames: pure arithmetic, no clock."""

import itertools

import numpy as np
import pytest

from data.sources.timeline import Grid, Placed, Timeline


class Arrivals:
    """Feeds a timeline and a grid by hand."""

    def __init__(self):
        self.timeline, self.grid, self.given = Timeline(), Grid(), []

    def add(self, stamp_s, now_s, idle_s=None, lasts_s=0.25) -> Placed:
        placed = self.timeline.place(stamp_s, lasts_s, now_s, now_s if idle_s is None else idle_s)
        self.given += self.grid.add(stamp_s, placed, lasts_s)
        return placed

    def lose(self) -> None:
        self.given += self.grid.end()
        self.timeline.disconnect()

    def times(self) -> list[float]:
        return [time_s for time_s, _ in self.given + self.grid.end()]


def test_stamps_set_the_distance_of_frames_not_the_network():
    arrivals = Arrivals()
    jitter = [0, 0.3, -0.1, 0.6, 0.2, 0, 0.4, 0.1]
    placed = [arrivals.add(100 + n / 4, max(0, n / 4 + late)) for n, late in enumerate(jitter)]
    assert [p.time_s for p in placed] == [n / 4 for n in range(8)] and all(p.joined for p in placed[1:])
    assert arrivals.times() == [0, 0.5, 1.0, 1.5]


def test_after_an_interruption_times_have_really_passed():
    arrivals = Arrivals()
    for n in range(5):
        arrivals.add(50 + n / 4, n / 4)
    arrivals.lose()  # the last picture was on screen until 1.25 s
    for n in range(5):
        arrivals.add(n / 4, 8.5 + n / 4)  # stamps begin anew
    assert arrivals.times() == [0, 0.5, 1.0, 8.5, 9.0, 9.5]


@pytest.mark.parametrize("stamp_s", [-95.0, 0.0, 0.75, 95000.0])
def test_stamps_that_jump_are_anchored_again(stamp_s):
    arrivals = Arrivals()
    for n in range(4):
        arrivals.add(n / 4, n / 4)
    placed = [arrivals.add(stamp_s + n / 4, 1.1 + n / 4) for n in range(6)]
    assert not placed[0].joined and placed[0].time_s == 1.1
    assert [round(p.time_s, 9) for p in placed] == [round(1.1 + n / 4, 9) for n in range(6)]
    assert arrivals.times() == [0, 0.5, 1.0, 1.5, 2.0, 2.5], "a short break is bridged with the picture before it"


def test_a_burst_after_a_stall_keeps_its_stamps():
    arrivals = Arrivals()
    arrivals.add(0, 0)
    placed = [arrivals.add(n / 4, 6.0) for n in range(1, 24)]  # what was held up comes at once
    assert all(p.joined for p in placed) and placed[-1].time_s == 23 / 4


def test_a_stream_that_paused_is_anchored_again():
    arrivals = Arrivals()
    arrivals.add(0, 0)
    placed = [arrivals.add(n / 4, 6 + n / 4) for n in range(1, 24)]  # six seconds late, and stays so
    broken = [p for p in placed if not p.joined]
    assert len(broken) == 1 and broken[0].time_s == 8.25 and placed[-1].time_s == 6 + 23 / 4
    times = arrivals.times()
    assert times == sorted(set(times)) and 4.0 not in times


def test_our_own_slowness_does_not_move_times():
    arrivals = Arrivals()
    placed = [arrivals.add(n / 4, n, idle_s=0.0) for n in range(40)]  # late because nobody takes the frames
    assert [p.time_s for p in placed] == [n / 4 for n in range(40)]


def test_frames_without_stamps_follow_each_other():
    arrivals = Arrivals()
    assert [arrivals.add(None, n / 10, idle_s=0.0).time_s for n in range(5)] == [0, 0.25, 0.5, 0.75, 1.0]


def test_times_rise_whatever_comes():
    numbers = np.random.default_rng(0)
    arrivals, now_s, last_s = Arrivals(), 0.0, -1.0
    for _ in range(3000):
        now_s += float(numbers.exponential(0.2))
        stamp = None if numbers.random() < 0.05 else float(numbers.choice([now_s, now_s - 3, numbers.normal(0, 1e4)]))
        if numbers.random() < 0.02:
            arrivals.lose()
        placed = arrivals.add(stamp, now_s, idle_s=now_s / 2)
        assert placed.time_s > last_s
        last_s = placed.time_s
    times = arrivals.times()
    assert all(a < b and (a * 2).is_integer() for a, b in itertools.pairwise(times))
