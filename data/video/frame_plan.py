"""Which frames of a video become a clip, when each is shown, and how large it is: arithmetic only, no
decoding.

Two rules choose frames. A stream takes 2 frames a second on a strict grid; a question about a whole video
takes frames spread evenly over it. Two meanings of "the time of a frame" exist:

    grid    the moment on the grid; the frame is the one on screen at that moment, in exact integer arithmetic
    end32   the END of the frame as float32, which is how the published LiveCC data and checkpoints were made
"""

import dataclasses
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import numpy as np

from utils.errors import UserError

if TYPE_CHECKING:
    import torch

FPS = 2  # frames a second, of every stream and of packed frames
FRAME_FACTOR = 2  # a patch spans two frames, so a clip has an even number of them
SIZE_FACTOR = 28  # a visual token spans 28 x 28 pixels
MAX_FRAME_PIXELS = 768 * SIZE_FACTOR**2  # of one video frame, however short the clip
QUESTION_MIN_FRAMES = 4
ENVIRONMENT = {"VIDEO_MIN_PIXELS": "min_pixels", "VIDEO_MAX_PIXELS": "total_pixels", "FPS_MAX_FRAMES": "max_frames"}

FrameTimes = Literal["grid", "end32"]


@dataclass(frozen=True)
class VideoLimits:
    """How many frames a clip may have, and how many pixels a frame and a whole clip may have."""

    min_pixels: int = 100 * SIZE_FACTOR**2  # 78400, of a frame
    total_pixels: int = 24576 * SIZE_FACTOR**2  # 19267584, of a clip
    max_frames: int = 480
    max_pixels: int | None = None  # of a frame; set by the live loop, in place of what total_pixels gives
    min_frames: int = QUESTION_MIN_FRAMES  # of a question's clip, as far as its window holds them
    fps: float = FPS  # of a question's clip; a stream has FPS

    @classmethod
    def from_environment(cls, env: Mapping[str, str] | None = None, base: "VideoLimits | None" = None) -> "VideoLimits":
        """Return `base` (default: the defaults) changed by VIDEO_MIN_PIXELS, VIDEO_MAX_PIXELS (a clip's
        total) and FPS_MAX_FRAMES in `env` (default: the process environment). Raises UserError for a bad
        value."""
        env = os.environ if env is None else env
        set_here = {field: _positive(name, env[name]) for name, field in ENVIRONMENT.items() if env.get(name)}
        return dataclasses.replace(base or cls(), **set_here)

    def question_count(self, n_window: int, average_fps: float) -> int:
        """How many of n_window frames a question about them gets: even, but 1 where there is only one."""
        return question_count(n_window, average_fps, self.max_frames, self.fps, self.min_frames)

    def most_pixels(self, n_frames: int) -> float:
        """Pixels that a frame may have in a clip of n_frames (after padding)."""
        share = min(MAX_FRAME_PIXELS, self.total_pixels / n_frames * FRAME_FACTOR)
        return self.max_pixels or max(share, int(1.05 * self.min_pixels))

    def size_hw(self, height: int, width: int, n_frames: int) -> tuple[int, int]:
        """Return the size to which a frame of height x width is resized in a clip of n_frames (after
        padding).

        Both sides are multiples of 28 and the aspect ratio is kept as well as that allows (smart_resize of
        qwen_vl_utils). Where the upper limit is below the lower one, the upper one holds. Raises ValueError
        for an aspect ratio over 200, and for a limit that leaves no visual token along one side.
        """
        from qwen_vl_utils.vision_process import smart_resize  # imports torch, for which --help need not wait

        largest = self.most_pixels(n_frames)
        smallest = min(self.min_pixels, largest)
        try:
            size = smart_resize(height, width, factor=SIZE_FACTOR, min_pixels=smallest, max_pixels=largest)
        except ZeroDivisionError:
            size = (0, 0)
        if 0 in size:
            raise ValueError(
                f"at most {largest:.0f} pixels a frame leave a frame of {width}x{height} less than a visual token of "
                f"{SIZE_FACTOR}x{SIZE_FACTOR} high or wide; raise the limit (VIDEO_MAX_PIXELS, max_pixels)"
            )
        if largest <= self.min_pixels and math.prod(size) > largest:  # enlarged, and rounded up past the limit
            size = smart_resize(*size, factor=SIZE_FACTOR, min_pixels=1, max_pixels=largest)
        return size


@dataclass(frozen=True)
class FrameTable:
    """The frames of a file in presentation order, in ticks of `time_base` seconds.

    start_ticks: int64 [n], non-decreasing.  end_ticks: int64 [n], start + duration as the container states
    it, so it need not be the next frame's start.  keyframe: bool [n]. nominal_ticks: in MP4 files with
    reordered frames, how long a frame lasts by the frame rate. FFmpeg 4, with which the published data was
    made, took the end from it there; so does `end32`.
    """

    start_ticks: np.ndarray
    end_ticks: np.ndarray
    time_base: Fraction
    keyframe: np.ndarray
    nominal_ticks: int | None = None

    def __len__(self) -> int:
        return len(self.start_ticks)

    @classmethod
    def even(cls, n_frames: int, fps: float) -> "FrameTable":
        """n_frames images shown `fps` a second, the first at 0, each of them whole in itself."""
        numbers = np.arange(n_frames, dtype=np.int64)
        return cls(numbers, numbers + 1, 1 / exact_seconds(fps), np.ones(n_frames, bool))

    @property
    def first_s(self) -> float:
        """The time at which the first frame appears."""
        return float(int(self.start_ticks[0]) * self.time_base)

    @property
    def last_s(self) -> float:
        """The time at which the last frame disappears."""
        return float(self.last_tick * self.time_base)

    @property
    def last_tick(self) -> int:
        """The first tick at which no frame is on screen any more."""
        return max(int(self.end_ticks[-1]), int(self.start_ticks[-1]) + 1)

    @property
    def mean_fps(self) -> float:
        """Frames a second over the whole file."""
        return len(self) / float((self.last_tick - int(self.start_ticks[0])) * self.time_base)

    def end_times32(self) -> np.ndarray:
        """Return every frame's end in seconds as float32 [n]."""
        ends = self.end_ticks if self.nominal_ticks is None else self.start_ticks + self.nominal_ticks
        return (ends * float(self.time_base)).astype(np.float32)


@dataclass(frozen=True)
class FramePlan:
    """A choice of frames: `indices` int64 [n] into the frame table, `times_s` float64 [n] in file time.

    The last `n_padded` entries repeat the entry before them, to make n even. frame_s: seconds that a frame stands for,
    which times that are rounded to frames do not tell exactly.
    """

    indices: np.ndarray
    times_s: np.ndarray
    n_padded: int = 0
    frame_s: float = 1 / FPS

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True)
class Clip:
    """Frames as they go to the model: uint8 [n, 3, H, W], n even, their `times_s` float64 [n], and their
    plan."""

    frames: "torch.Tensor"
    times_s: np.ndarray
    plan: FramePlan


def plan_stream(
    table: FrameTable, start_s: float | None, end_s: float | None, limits: VideoLimits, frame_times: FrameTimes = "grid"
) -> FramePlan:
    """Choose 2 frames a second from the window start_s <= t <= end_s; None leaves that side open.

    The grid starts with the window and the frame on screen there; without a start, with the first frame. Raises
    ValueError where it holds no frame.
    """
    choose = {"grid": _grid_frames, "end32": _end32_frames}[frame_times]
    return _padded(*choose(table, start_s, end_s, limits.max_frames))


def plan_question(
    table: FrameTable,
    start_s: float | None,
    end_s: float | None,
    limits: VideoLimits,
    frame_times: FrameTimes = "grid",
    average_fps: float | None = None,
) -> FramePlan:
    """Choose frames spread evenly over the window start_s <= t <= end_s; None leaves that side open.

    Their number is that of `smart_nframes` of qwen_vl_utils: about limits.fps a second, at least min_frames, at most
    max_frames and what the window holds, even. average_fps: the container's figure; without it, the table's mean. A
    frame's time is its start, under end32 its end. Raises ValueError where the window holds no frame.
    """
    times = table.end_times32() if frame_times == "end32" else table.start_ticks * float(table.time_base)
    times = times if start_s is None and end_s is None else np.clip(times, start_s, end_s)
    window = _window_frames(table, start_s, end_s, frame_times)
    fps = average_fps or table.mean_fps
    n_frames = limits.question_count(len(window), fps)
    chosen = window[np.linspace(0, len(window) - 1, n_frames).round().astype(np.int64)]
    return _padded(chosen, times[chosen].astype(np.float64), len(window) / fps / n_frames)


def question_count(
    n_window: int, average_fps: float, max_frames: int, fps: float = FPS, min_frames: int = QUESTION_MIN_FRAMES
) -> int:
    """Return how many of n_window frames make `fps` a second: even, but 1 where there is only one."""
    wanted = max(n_window / average_fps * fps, min_frames)
    n_frames = min(wanted, max_frames // FRAME_FACTOR * FRAME_FACTOR, n_window)
    return max(int(n_frames) // FRAME_FACTOR * FRAME_FACTOR, min(n_window, FRAME_FACTOR))


def exact_seconds(seconds: float) -> Fraction:
    """Return the decimal number that was written: 12.3 becomes 123/10, not the nearest binary fraction.

    A frame at 369/30 s is then inside a window that starts at 12.3. Raises ValueError for nan and infinity.
    """
    return Fraction(repr(float(seconds)))


def grid_ticks(first: Fraction, n_times: int, time_base: Fraction) -> np.ndarray:
    """Return first, first + 1/2, ... (seconds) rounded down to ticks, int64 [n_times].

    Frames start on whole ticks, so "starts no later than t" is the same for t and for t rounded down.
    """
    return np.array([math.floor((first + Fraction(k, FPS)) / time_base) for k in range(n_times)], np.int64)


def _grid_frames(
    table: FrameTable, start_s: float | None, end_s: float | None, max_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and grid times: each time takes the frame on screen, the last one to start by then.

    Before a file's first frame nothing is on screen; the grid time less than a step before it takes it too.
    """
    _check_window(table, start_s, end_s)
    appears = int(table.start_ticks[0]) * table.time_base
    first = appears if start_s is None else exact_seconds(start_s)
    first += max(math.floor((appears - first) * FPS), 0) * Fraction(1, FPS)
    n_times = math.ceil((table.last_tick * table.time_base - first) * FPS)
    if end_s is not None:
        n_times = min(n_times, math.floor((exact_seconds(end_s) - first) * FPS) + 1)
    if n_times <= 0:
        raise _no_frame(table, start_s, end_s)
    n_times = min(n_times, max_frames)
    ticks = grid_ticks(first, n_times, table.time_base)
    times_s = np.array([float(first + Fraction(k, FPS)) for k in range(n_times)])
    return (np.searchsorted(table.start_ticks, ticks, side="right") - 1).clip(min=0), times_s


def _end32_frames(
    table: FrameTable, start_s: float | None, end_s: float | None, max_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and their end times: each grid time takes the first frame that does not end before it.

    The grid ends as the published reader's does, in float32: from 32 s on its margin of 1e-6 is lost in rounding, and
    a grid time at the very end of the window with it. Where frames stand for longer than a step (slides), which that
    reader was not made for, the grid starts with the window, and a frame's time is at most a step after the grid's.
    """
    window = _window_frames(table, start_s, end_s, "end32")
    ends32 = table.end_times32()[window]
    ends = ends32.astype(np.float64)
    first = ends[0] if start_s is None or ends[0] - start_s <= 1 / FPS else start_s
    last = max(ends32[-1], ends32[0]) if end_s is None else min(max(ends32[-1], ends32[0]), np.float32(end_s))
    stop = min(float(last + np.float32(1e-6)), first + max_frames / FPS)
    grid = np.arange(first, stop, 1 / FPS)[:max_frames]
    # The running maximum reaches a time where a frame first does, also if stated durations put ends out of
    # order.
    picks = np.searchsorted(np.maximum.accumulate(ends), grid, side="left").clip(max=len(ends) - 1)
    return window[picks], np.minimum(ends[picks], grid + 1 / FPS)


def _window_frames(
    table: FrameTable, start_s: float | None, end_s: float | None, frame_times: FrameTimes
) -> np.ndarray:
    """Return the indices of the frames with start_s <= time <= end_s, in order; where they leave more than a step of
    the window without a picture, also of the frame that is on screen there. Raises ValueError where there are none.
    """
    _check_window(table, start_s, end_s)
    inside = np.ones(len(table), bool)
    if frame_times == "end32":  # the published code compared in float32 on both sides
        times, step = table.end_times32(), 1 / FPS
        lower, upper = (None if bound is None else np.float32(bound) for bound in (start_s, end_s))
    else:
        times, step = table.start_ticks, 1 / FPS / table.time_base
        lower = None if start_s is None else _int64(math.ceil(exact_seconds(start_s) / table.time_base))
        upper = None if end_s is None else _int64(math.floor(exact_seconds(end_s) / table.time_base))
    if lower is not None:
        inside &= times >= lower
    if upper is not None:
        inside &= times <= upper
    found = np.flatnonzero(inside)
    if frame_times == "grid" and lower is not None and lower < table.last_tick:
        shown = int(np.searchsorted(table.start_ticks, lower, side="right")) - 1
        if shown >= 0 and (not len(found) or times[found[0]] - lower > step):
            found = np.union1d(shown, found)
    if frame_times == "end32" and upper is not None:
        # The first to end behind the window, if it begins within it.
        shown = int(np.searchsorted(np.maximum.accumulate(times), upper, side="right"))
        begins_inside = shown < len(table) and table.start_ticks[shown] * float(table.time_base) < upper
        if begins_inside and (not len(found) or upper - times[found[-1]] > step):
            found = np.union1d(found, shown)
    if not len(found):
        raise _no_frame(table, start_s, end_s)
    return found


def _check_window(table: FrameTable, start_s: float | None, end_s: float | None) -> None:
    if start_s is not None and end_s is not None and not start_s <= end_s:
        raise ValueError(f"the window from {start_s} s to {end_s} s ends before it starts")
    if start_s is not None and exact_seconds(start_s) >= table.last_tick * table.time_base:
        raise _no_frame(table, start_s, end_s)


def _no_frame(table: FrameTable, start_s: float | None, end_s: float | None) -> ValueError:
    bounds = [f"from {start_s} s"] * (start_s is not None) + [f"to {end_s} s"] * (end_s is not None)
    return ValueError(
        f"no frame in the window {' '.join(bounds)}: the video runs from {table.first_s:g} s to {table.last_s:g} s"
    )


def _padded(indices: np.ndarray, times_s: np.ndarray, frame_s: float = 1 / FPS) -> FramePlan:
    n_padded = -len(indices) % FRAME_FACTOR
    return FramePlan(
        np.pad(indices.astype(np.int64), (0, n_padded), mode="edge"),
        np.pad(times_s.astype(np.float64), (0, n_padded), mode="edge"),
        n_padded,
        frame_s,
    )


def _int64(value: int) -> int:
    limits = np.iinfo(np.int64)
    return min(max(value, int(limits.min)), int(limits.max))


def _positive(name: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise UserError(f"environment variable {name}={text!r}: needs a whole number above 0; correct or unset it")
    return value
