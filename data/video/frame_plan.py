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

    def size_hw(self, height: int, width: int, n_frames: int) -> tuple[int, int]:
        """Return the size to which a frame of height x width is resized in a clip of n_frames (after
        padding).

        Both sides are multiples of 28 and the aspect ratio is kept as well as that allows (smart_resize of
        qwen_vl_utils). Where the upper limit is below the lower one, the upper one holds. Raises ValueError
        for an aspect ratio over 200, and for a limit that leaves no visual token along one side.
        """
        from qwen_vl_utils.vision_process import smart_resize  # imports torch, for which --help need not wait

        largest = self.max_pixels or max(
            min(MAX_FRAME_PIXELS, self.total_pixels / n_frames * FRAME_FACTOR), int(1.05 * self.min_pixels)
        )
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

    The last `n_padded` entries repeat the entry before them, to make n even.
    """

    indices: np.ndarray
    times_s: np.ndarray
    n_padded: int = 0

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

    The grid starts at the first frame in the window. Raises ValueError where the window holds no frame.
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
    window = _window_frames(table, start_s, end_s, frame_times)
    n_frames = question_count(
        len(window), average_fps or table.mean_fps, limits.max_frames, limits.min_frames, limits.fps
    )
    chosen = window[np.linspace(0, len(window) - 1, n_frames).round().astype(np.int64)]
    return _padded(chosen, times[chosen].astype(np.float64))


def question_count(
    n_window: int, average_fps: float, max_frames: int, min_frames: int = QUESTION_MIN_FRAMES, fps: float = FPS
) -> int:
    """Return how many of n_window frames a question about them gets: even, but 1 where there is only one."""
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
    """Return indices and grid times: each time takes the frame on screen, the last one to start by then."""
    window = _window_frames(table, start_s, end_s, "grid")
    first = int(table.start_ticks[window[0]]) * table.time_base
    n_times = math.ceil((table.last_tick * table.time_base - first) * FPS)
    if end_s is not None:
        n_times = min(n_times, math.floor((exact_seconds(end_s) - first) * FPS) + 1)
    n_times = min(n_times, max_frames)
    ticks = grid_ticks(first, n_times, table.time_base)
    times_s = np.array([float(first + Fraction(k, FPS)) for k in range(n_times)])
    return np.searchsorted(table.start_ticks, ticks, side="right") - 1, times_s


def _end32_frames(
    table: FrameTable, start_s: float | None, end_s: float | None, max_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and their end times: each grid time takes the first frame that does not end before
    it."""
    window = _window_frames(table, start_s, end_s, "end32")
    ends = table.end_times32()[window].astype(np.float64)
    stop = min(max(ends[-1], ends[0]) + 1e-6, ends[0] + max_frames / FPS)
    grid = np.arange(ends[0], stop, 1 / FPS)[:max_frames]
    # The running maximum reaches a time where a frame first does, also if stated durations put ends out of
    # order.
    picks = np.searchsorted(np.maximum.accumulate(ends), grid, side="left").clip(max=len(ends) - 1)
    return window[picks], ends[picks]


def _window_frames(
    table: FrameTable, start_s: float | None, end_s: float | None, frame_times: FrameTimes
) -> np.ndarray:
    """Return the indices of the frames with start_s <= time <= end_s. Raises ValueError where there are
    none."""
    if start_s is not None and end_s is not None and not start_s <= end_s:
        raise ValueError(f"the window from {start_s} s to {end_s} s ends before it starts")
    inside = np.ones(len(table), bool)
    if frame_times == "end32":  # the published code compared in float32 on both sides
        times = table.end_times32()
        lower, upper = (None if bound is None else np.float32(bound) for bound in (start_s, end_s))
    else:
        times = table.start_ticks
        lower = None if start_s is None else _int64(math.ceil(exact_seconds(start_s) / table.time_base))
        upper = None if end_s is None else _int64(math.floor(exact_seconds(end_s) / table.time_base))
    if lower is not None:
        inside &= times >= lower
    if upper is not None:
        inside &= times <= upper
    if not inside.any():
        bounds = [f"from {start_s} s"] * (start_s is not None) + [f"to {end_s} s"] * (end_s is not None)
        raise ValueError(
            f"no frame in the window {' '.join(bounds)}: the video runs from {table.first_s:g} s to {table.last_s:g} s"
        )
    return np.flatnonzero(inside)


def _padded(indices: np.ndarray, times_s: np.ndarray) -> FramePlan:
    n_padded = -len(indices) % FRAME_FACTOR
    return FramePlan(
        np.pad(indices.astype(np.int64), (0, n_padded), mode="edge"),
        np.pad(times_s.astype(np.float64), (0, n_padded), mode="edge"),
        n_padded,
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
