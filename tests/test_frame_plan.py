"""Which frames the rules choose, in exact arithmetic and in the published float32."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qwen_vl_utils.vision_process import smart_nframes

from data.video.asked_frames import AskedFrames
from data.video.frame_plan import (
    FrameTable,
    VideoLimits,
    grid_ticks,
    plan_question,
    plan_stream,
    question_count,
)
from utils.errors import UserError

LIMITS = VideoLimits()


def table(times_s, time_base=Fraction(1, 30000), last_s=None, nominal=None) -> FrameTable:
    """Frames that start at exact times (fractions of a second); the last lasts as long as the one before."""
    starts = [int(Fraction(time) / time_base) for time in times_s]
    last = int(Fraction(last_s) / time_base) if last_s else starts[-1] + (starts[-1] - starts[-2])
    starts = np.array(starts, np.int64)
    return FrameTable(starts, np.append(starts[1:], last), time_base, np.ones(len(starts), bool), nominal)


def regular(n_frames: int, fps: Fraction, start=Fraction(0)) -> FrameTable:
    return table([start + k / Fraction(fps) for k in range(n_frames)])


def test_grid_takes_the_frame_on_screen():
    plan = plan_stream(regular(75, Fraction(25)), None, None, LIMITS)
    assert plan.indices.tolist() == [0, 12, 25, 37, 50, 62]
    assert plan.times_s.tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    assert plan.n_padded == 0


def test_grid_is_exact_where_floats_are_not():
    # 30000/1001 frames a second: after 500.5 s, frame 15000 starts exactly on the grid.
    plan = plan_stream(regular(15002, Fraction(30000, 1001)), None, None, VideoLimits(max_frames=1002))
    assert plan.times_s[1001] == 500.5
    assert plan.indices[1001] == 15000


def test_grid_equals_a_search_with_fractions():
    generator = np.random.default_rng(0)
    for time_base in (Fraction(1, 1000), Fraction(1001, 30000), Fraction(1, 90000), Fraction(1, 15360)):
        ticks = np.unique(generator.integers(-50, 4000, 60)) * max(1, round(Fraction(1, 100) / time_base))
        frames = FrameTable(ticks, ticks + 1, time_base, np.ones(len(ticks), bool))
        plan = plan_stream(frames, None, None, LIMITS)
        for index, time_s in zip(plan.indices, plan.times_s, strict=True):
            shown = [i for i, tick in enumerate(ticks) if int(tick) * time_base <= Fraction(time_s) + 10**-12]
            assert index == shown[-1]


def test_window_includes_both_ends_as_written():
    # 12.3 and 12.8 s are frames of a 30 fps file, but no binary fractions: both must count as inside.
    frames = regular(900, Fraction(30))
    plan = plan_stream(frames, 12.3, 12.8, LIMITS)
    assert plan.indices.tolist() == [369, 384]
    assert plan_stream(frames, 12.31, 12.8, LIMITS).indices.tolist() == [369, 369], "the frame on screen at 12.31 s"


def test_grid_starts_with_the_frame_on_screen():
    frames = regular(50, Fraction(10), start=Fraction(17, 10))
    plan = plan_stream(frames, 2.05, 3.7, LIMITS)
    assert plan.times_s.tolist() == [2.05, 2.55, 3.05, 3.55] and plan.indices.tolist() == [3, 8, 13, 18]
    early = plan_stream(frames, 0.0, 3.0, LIMITS)  # nothing is on screen before 1.7 s
    assert early.times_s.tolist() == [1.5, 2.0, 2.5, 3.0] and early.indices.tolist() == [0, 3, 8, 13]
    with pytest.raises(ValueError, match=r"no frame in the window from 0\.0 s to 1\.0 s"):
        plan_stream(frames, 0.0, 1.0, LIMITS)


@pytest.mark.parametrize("frame_times", ["grid", "end32"])
def test_slides_are_on_screen_until_the_next(frame_times):
    slides = table([0, 20, 40], last_s=60)
    for start_s, end_s, shown in ((5, 35, {0, 1}), (5, 15, {0}), (25, 35, {1}), (19.9, 20.9, {0, 1})):
        plan = plan_stream(slides, start_s, end_s, LIMITS, frame_times)
        assert set(plan.indices.tolist()) == shown
        assert start_s <= plan.times_s[0] <= start_s + 0.5 and end_s - 1 <= plan.times_s[-1] <= end_s + 0.5
        assert np.diff(plan.times_s).min() >= 0 and np.diff(plan.times_s).max() <= 1
        if start_s == 19.9:
            continue  # a question takes what is on screen for more than a step
        asked = plan_question(slides, start_s, end_s, LIMITS, frame_times)
        assert set(asked.indices.tolist()) == shown and start_s <= min(asked.times_s) <= max(asked.times_s) <= end_s


def test_end32_ends_its_grid_in_float32():
    """numpy keeps float32 + 1e-6 in float32, where it is lost from 32 s on: so the published reader's grid ends."""
    frames = regular(1500, Fraction(30))
    for start_s, end_s, n_frames in ((20.0, 31.0, 24), (20.0, 32.0, 24), (20.0, 33.0, 26)):
        ends = frames.end_times32()
        inside = ends[(ends >= start_s) & (ends <= end_s)]
        grid = np.arange(inside[0], inside[-1] + 1e-6, 1 / 2)
        plan = plan_stream(frames, start_s, end_s, LIMITS, "end32")
        assert len(plan) - plan.n_padded == len(grid) and len(plan) == n_frames


def test_a_long_last_frame_stays_on_screen():
    plan = plan_stream(table([0, Fraction(1, 4)], last_s=2), None, None, LIMITS)
    assert plan.indices.tolist() == [0, 1, 1, 1]


def test_odd_counts_repeat_the_last_frame_and_limits_take_the_first_ones():
    frames = regular(250, Fraction(25))
    assert plan_stream(frames, 0, 1.1, LIMITS).indices.tolist() == [0, 12, 25, 25]
    assert plan_stream(frames, 0, 1.1, LIMITS).times_s.tolist() == [0, 0.5, 1, 1]
    assert plan_stream(frames, 0, 1.1, LIMITS).n_padded == 1
    assert plan_stream(frames, None, None, VideoLimits(max_frames=5)).indices.tolist() == [
        0,
        12,
        25,
        37,
        50,
        50,
    ]


def test_one_frame():
    one = table([0], last_s=Fraction(1, 25))
    for plan in (plan_stream(one, None, None, LIMITS), plan_question(one, None, None, LIMITS)):
        assert plan.indices.tolist() == [0, 0]
        assert plan.n_padded == 1


def test_end32_follows_the_published_definition():
    frames = regular(300, Fraction(30))
    ends = frames.end_times32()
    inside = np.flatnonzero((ends >= np.float32(2.1)) & (ends <= np.float32(8.05)))
    grid = np.arange(np.float64(ends[inside][0]), np.float64(ends[inside][-1]) + 1e-6, 0.5)
    expected = [next((i for i in inside if ends[i] >= time), inside[-1]) for time in grid]
    plan = plan_stream(frames, 2.1, 8.05, LIMITS, "end32")
    assert plan.indices[: len(expected)].tolist() == expected
    assert plan.times_s[: len(expected)].tolist() == ends[expected].astype(float).tolist()


def test_end32_compares_the_window_in_float32():
    # 12.7 as float32 lies below 12.7: it counts as inside only because the bound is rounded the same way.
    frames = regular(900, Fraction(30))
    assert plan_stream(frames, 12.7, 13, LIMITS, "end32").indices[0] == 380
    assert np.float64(frames.end_times32()[380]) < 12.7


def test_end32_takes_the_nominal_duration_where_there_is_one():
    frames = table([0, 1, 2], nominal=3000)
    assert plan_stream(frames, None, None, LIMITS, "end32").times_s[0] == pytest.approx(0.1)


@pytest.mark.parametrize("frame_times", ["grid", "end32"])
@pytest.mark.parametrize("plan", [plan_stream, plan_question])
def test_a_window_without_a_frame_is_an_error(plan, frame_times):
    with pytest.raises(ValueError, match=r"no frame in the window from 20 s to 30 s: .* 0 s to 10 s"):
        plan(regular(250, Fraction(25)), 20, 30, LIMITS, frame_times)
    with pytest.raises(ValueError, match="ends before it starts"):
        plan(regular(250, Fraction(25)), 5, 3, LIMITS, frame_times)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_window_must_be_finite(bad):
    with pytest.raises((ValueError, OverflowError)):
        plan_stream(regular(250, Fraction(25)), bad, None, LIMITS)


def test_question_count_is_that_of_the_library():
    for n_window in (2, 3, 4, 5, 7, 30, 301, 5000, 50000):
        for fps in (1.0, 5.0, 15.404, 29.97, 60.0):
            expected = smart_nframes({"fps": 2.0, "max_frames": min(480, n_window)}, n_window, fps)
            assert question_count(n_window, fps, 480) == expected


@settings(deadline=None, derandomize=True, database=None)
@given(
    n_window=st.integers(4, 2000),
    average_fps=st.floats(1, 60),
    keys=st.one_of(
        st.fixed_dictionaries({"nframes": st.integers(2, 400)}),
        st.fixed_dictionaries(
            {"fps": st.floats(0.05, 30)},
            optional={"min_frames": st.integers(2, 20), "max_frames": st.integers(20, 400)},
        ),
    ),
)
def test_frames_asked_for_are_as_many_as_qwens_reader_takes(n_window, average_fps, keys):
    limits = AskedFrames(**keys).limits(VideoLimits())
    most = min(480, n_window, keys.get("max_frames", 480))
    try:
        expected = smart_nframes({**keys, **({} if "nframes" in keys else {"max_frames": most})}, n_window, average_fps)
    except ValueError:
        with pytest.raises(ValueError, match="nframes"):
            limits.question_count(n_window, average_fps)
    else:
        assert limits.question_count(n_window, average_fps) == expected


def test_question_frames_are_spread_over_the_window():
    frames = regular(250, Fraction(25))
    plan = plan_question(frames, None, None, LIMITS)
    assert plan.indices.tolist() == np.linspace(0, 249, 20).round().astype(int).tolist()
    assert plan.times_s.tolist() == pytest.approx((plan.indices / 25).tolist())
    window = plan_question(frames, 2, 4, LIMITS, average_fps=25.0)
    assert window.indices.tolist() == np.linspace(50, 100, 4).round().astype(int).tolist()
    assert plan_question(frames, 2, 4, LIMITS, "end32").indices[0] == 49


def test_sizes():
    assert LIMITS.size_hw(720, 1280, 120) == (420, 728)
    assert VideoLimits(max_pixels=64 * 28 * 28).size_hw(272, 640, 120) == (140, 336)
    small = VideoLimits(max_pixels=50176).size_hw(90, 160, 120)
    assert small[0] * small[1] <= 50176
    with pytest.raises(ValueError, match="aspect ratio"):
        LIMITS.size_hw(10, 4000, 120)


def test_limits_from_the_environment():
    env = {"VIDEO_MIN_PIXELS": "12544", "VIDEO_MAX_PIXELS": "200704", "FPS_MAX_FRAMES": "8", "OTHER": "x"}
    assert VideoLimits.from_environment(env) == VideoLimits(12544, 200704, 8)
    base = VideoLimits(max_frames=16, max_pixels=784)
    assert VideoLimits.from_environment({}, base) == base
    with pytest.raises(UserError, match="FPS_MAX_FRAMES='many'"):
        VideoLimits.from_environment({"FPS_MAX_FRAMES": "many"})


def test_grid_ticks_round_down():
    assert grid_ticks(Fraction(0), 4, Fraction(1, 25)).tolist() == [0, 12, 25, 37]
    assert grid_ticks(Fraction(-1, 10), 2, Fraction(1, 25)).tolist() == [-3, 10]


def test_a_limit_below_a_visual_token_is_said():
    with pytest.raises(ValueError, match="leave a frame of 160x72 less than a visual token"):
        VideoLimits(min_pixels=784, total_pixels=31360).size_hw(72, 160, 52)
