"""Positions in their three modes: whole, incremental, and against the model's definition."""

import pytest
import torch

from data.samples.conversation import VisualBlock
from data.samples.positions import PositionTracker, position_ids

PADS = {"image": 90, "video": 91}


def block(kind, t, h, w, time_step=1.0):
    return VisualBlock(kind, (t, h, w), time_step)


def ids_with(*parts):
    """Token ids from text lengths and blocks."""
    ids, blocks = [], []
    for part in parts:
        if isinstance(part, int):
            ids += list(range(part))
        else:
            t, h, w = part.grid_thw
            ids += [PADS[part.kind]] * (t * h * w // 4)
            blocks.append(part)
    return torch.tensor(ids), blocks


def test_mrope_by_hand():
    ids, blocks = ids_with(2, block("video", 1, 4, 6), 1)
    expected = [
        [0, 1, 2, 2, 2, 2, 2, 2, 5],
        [0, 1, 2, 2, 2, 3, 3, 3, 5],
        [0, 1, 2, 3, 4, 2, 3, 4, 5],
    ]
    assert position_ids(ids, blocks, "mrope", PADS).tolist() == expected


def test_text_after_a_long_video_does_not_collide_with_it():
    ids, blocks = ids_with(1, block("video", 9, 2, 4), 1)
    positions = position_ids(ids, blocks, "mrope", PADS)
    assert positions[:, -1].tolist() == [10, 10, 10]  # 1 + max(T, H/2, W/2), not 1 + max(H/2, W/2)
    assert positions[0, 1:-1].max() == 9


@pytest.mark.parametrize(
    "time_step, times, after",
    [
        (2.0, [0, 2, 4, 6, 8], 9),  # Qwen2.5-VL at 2 frames a second: 2 positions a second, a grid is a second
        (1.25, [0, 1, 2, 3, 5], 6),  # rounded down
        (0.3, [0, 0, 0, 0, 1], 3),  # after its width, the largest
    ],
)
def test_a_videos_times_are_its_seconds(time_step, times, after):
    ids, blocks = ids_with(1, block("video", 5, 4, 6, time_step), 1)
    positions = position_ids(ids, blocks, "mrope", PADS)
    assert positions[0, 1:-1:6].tolist() == [1 + time for time in times]
    assert positions[:, -1].tolist() == [1 + after] * 3


def test_sequential_numbers_every_token():
    ids, blocks = ids_with(3, block("image", 1, 4, 4), 2, block("video", 2, 2, 2), 1)
    assert position_ids(ids, blocks, "sequential", PADS).tolist() == [list(range(len(ids)))] * 3


def test_livecc_is_three_dimensional_in_the_first_block_only():
    ids, blocks = ids_with(2, block("video", 3, 4, 4), 2, block("video", 1, 4, 4), 2)
    positions = position_ids(ids, blocks, "livecc", PADS)
    first = position_ids(*ids_with(2, block("video", 3, 4, 4), 2), "mrope", PADS)
    assert torch.equal(positions[:, : first.shape[1]], first)
    rest = positions[:, first.shape[1] :]
    assert rest.tolist() == [list(range(int(first.max()) + 1, int(first.max()) + 1 + rest.shape[1]))] * 3


@pytest.mark.parametrize("mode", ["mrope", "sequential", "livecc"])
def test_incremental_equals_whole(mode):
    turns = [(4, block("video", 3, 4, 6), 5), (2, block("video", 1, 4, 6), 1), (3,), (1, block("image", 1, 8, 2), 2)]
    tracker, pieces, all_ids, all_blocks = PositionTracker(mode), [], [], []
    for turn in turns:
        ids, blocks = ids_with(*turn)
        pieces.append(tracker.extend(ids, blocks, PADS))
        all_ids.append(ids)
        all_blocks += blocks
    whole = position_ids(torch.cat(all_ids), all_blocks, mode, PADS)
    assert torch.equal(torch.cat(pieces, dim=1), whole)


def test_a_fork_goes_its_own_way():
    tracker = PositionTracker("mrope")
    tracker.extend(torch.arange(5), [], PADS)
    fork = tracker.fork()
    fork.extend(torch.arange(7), [], PADS)
    assert (tracker.next, fork.next) == (5, 12)


@pytest.mark.parametrize(
    "ids, blocks",
    [
        ([1, 91, 91], [block("video", 1, 4, 4)]),
        ([91, 91, 91, 91, 91], [block("video", 1, 4, 4)]),
        ([91, 91, 1, 91, 91], [block("video", 1, 4, 4)]),
        ([91] * 4, [block("image", 1, 4, 4)]),
    ],
)
def test_pads_that_do_not_match_are_refused(ids, blocks):
    with pytest.raises(ValueError, match="pad tokens"):
        position_ids(torch.tensor(ids), blocks, "mrope", PADS)


def test_unknown_mode():
    with pytest.raises(ValueError, match="sequential"):
        PositionTracker("mrop")
