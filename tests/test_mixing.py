"""Mixing files by weight: exact shares, passes without repeats, ranks, and any place found again."""

from collections import Counter
from itertools import islice

import pytest
import torch

from data.loading.mixing import BLOCK, MixedOrder, make_order
from data.loading.order import SampleOrder
from models.training.source_loss import SourceLoss
from utils.errors import UserError

SIZES = (700, 50, 9000)


def first(order, n: int, position: int = 0) -> list[int]:
    return list(islice(order.from_position(position), n))


def files(drawn: list[int]) -> Counter:
    return Counter(0 if i < 700 else 1 if i < 750 else 2 for i in drawn)


@pytest.mark.parametrize("weights", [(1, 1, 2), (0.5, 0.25, 1.0), (10, 10, 20)])
def test_a_weight_is_the_files_share_of_the_mix_whatever_its_size(weights):
    drawn = first(MixedOrder(SIZES, weights, 3), 4 * BLOCK)
    for block in range(4):
        if weights[0] != 0.5:
            assert files(drawn[block * BLOCK : (block + 1) * BLOCK]) == {0: 250, 1: 250, 2: 500}
    assert files(drawn).total() == 4 * BLOCK and all(0 <= i < sum(SIZES) for i in drawn)


def test_shares_fill_a_block_also_where_they_are_no_whole_numbers():
    for weights in [(1, 1, 1), (0.0011, 0.5, 0.5), (1, 2, 4, 8, 16), (3, 0.0041, 0.0042)]:
        order = MixedOrder((10,) * len(weights), weights)
        assert sum(order.shares) == BLOCK and min(order.shares) >= 1
        for share, weight in zip(order.shares, weights, strict=True):
            assert abs(share - BLOCK * weight / sum(weights)) <= 1


def test_each_file_is_drawn_in_whole_passes():
    drawn = first(MixedOrder(SIZES, (1, 1, 2), 5), 4 * BLOCK)
    for low, high in ((0, 700), (700, 750), (750, 9750)):
        own = [i for i in drawn if low <= i < high]
        for start in range(0, len(own), high - low):
            one = own[start : start + high - low]
            assert len(set(one)) == len(one)
        if len(own) >= 2 * (high - low):
            assert own[: high - low] != own[high - low : 2 * (high - low)]


def test_files_are_mixed_and_blocks_differ():
    drawn = first(MixedOrder(SIZES, (1, 1, 2)), 2 * BLOCK)
    patterns = [[0 if i < 700 else 1 if i < 750 else 2 for i in drawn[k * BLOCK : (k + 1) * BLOCK]] for k in (0, 1)]
    assert patterns[0] != patterns[1]
    assert all(files(drawn[k : k + 100]).keys() == {0, 1, 2} for k in range(0, 2 * BLOCK, 100))


@pytest.mark.parametrize("world", [1, 3, 8])
def test_ranks_deal_out_one_common_order(world):
    ranks = [first(MixedOrder(SIZES, (1, 1, 2), 7, rank, world), 700) for rank in range(world)]
    dealt = [index for row in zip(*ranks, strict=True) for index in row]
    assert dealt == first(MixedOrder(SIZES, (1, 1, 2), 7), 700 * world)


@pytest.mark.parametrize("position", [0, 1, 332, 333, 334, 1999])
def test_any_place_is_found_again(position):
    order = MixedOrder(SIZES, (1, 1, 2), 5, 1, 3)
    assert first(order, 20, position) == first(order, 20 + position)[position:]


def test_the_mix_stays_the_same_over_library_versions():
    assert first(MixedOrder((5, 5), (3, 1)), 12) == [1, 0, 3, 5, 4, 6, 2, 1, 0, 3, 4, 2]


@pytest.mark.parametrize(
    "numbers", [((), ()), ((5,), (1, 2)), ((5, 0), (1, 1)), ((5, 5), (1, 0)), ((5,), (1,), 0, 2, 2)]
)
def test_impossible_mixes_are_refused(numbers):
    with pytest.raises(ValueError, match="needs"):
        MixedOrder(*numbers)


def test_without_weights_files_are_drawn_by_size():
    assert make_order([4, 6], None, 3, 1, 2) == SampleOrder(10, 3, 1, 2)
    assert make_order([4, 6], [1, 2], 3, 1, 2) == MixedOrder((4, 6), (1, 2), 3, 1, 2)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], r"1 numbers for 2 annotation files"),
        ([1.0, -1.0], r"1 -1: each must be"),
        ([1.0, 0.0], r"at least a 1000th"),
        ([1.0, 0.0009], r"leave a file out"),
        ([float("nan"), 1.0], "nan"),
        ([float("inf"), 1.0], "inf"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(UserError, match=message):
        make_order([4, 6], weights, 0, 0, 1)


def test_each_sources_loss_is_over_its_own_tokens():
    losses = SourceLoss(["a", "b", "c"])
    losses.add([0, 1], [2, 3], torch.tensor([2.0, 9.0]))
    losses.add([0], [6], torch.tensor([14.0]))
    other_rank = {"seen": [[0.0, 0.0, 1.0, 2.0, 0.0, 0.0]]}
    summed = losses.drain(lambda local: [a + b for a, b in zip(local, other_rank["seen"].pop(), strict=True)])
    assert summed == {"loss/a": 2.0, "loss/b": 2.0}
    assert losses.drain(lambda local: local) == {}
