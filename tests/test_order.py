"""The order of samples: every pass a permutation, dealt out to the ranks, found again from any place."""

from itertools import islice

import pytest

from data.loading.order import SampleOrder


def first(order: SampleOrder, n: int, position: int = 0) -> list[int]:
    return list(islice(order.from_position(position), n))


def test_every_pass_is_another_permutation():
    drawn = first(SampleOrder(10, seed=3), 30)
    passes = [drawn[i : i + 10] for i in (0, 10, 20)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 3


def test_order_depends_on_the_seed_alone():
    assert first(SampleOrder(50, seed=1), 120) == first(SampleOrder(50, seed=1), 120)
    assert first(SampleOrder(50, seed=1), 50) != first(SampleOrder(50, seed=2), 50)


@pytest.mark.parametrize(("n_samples", "world"), [(12, 4), (10, 3), (2, 5), (1, 2)])
def test_ranks_deal_out_one_common_order(n_samples, world):
    ranks = [first(SampleOrder(n_samples, 7, rank, world), 12) for rank in range(world)]
    dealt = [index for row in zip(*ranks, strict=True) for index in row]
    assert dealt == first(SampleOrder(n_samples, 7), 12 * world)


@pytest.mark.parametrize("position", [0, 1, 9, 10, 11, 25])
def test_any_place_is_found_again(position):
    order = SampleOrder(10, seed=5, rank=1, world=3)
    assert first(order, 20, position) == first(order, 20 + position)[position:]


def test_the_shuffle_stays_the_same_over_library_versions():
    assert first(SampleOrder(10, seed=0), 10) == [6, 1, 0, 5, 3, 8, 7, 9, 2, 4]


@pytest.mark.parametrize("numbers", [(0, 0, 0, 1), (5, 0, 2, 2), (5, 0, -1, 2)])
def test_impossible_orders_are_refused(numbers):
    with pytest.raises(ValueError, match="at least one sample"):
        SampleOrder(*numbers)
