"""Frames as an element of a message asks for them, in the keys of Qwen's message format (qwen_vl_utils).

Where an element says nothing, the run's own limits hold; what it says changes them for that element alone.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from data.video.frame_plan import FRAME_FACTOR, SIZE_FACTOR, VideoLimits, question_count


@dataclass(frozen=True)
class AskedFrames:
    """What an element asks for; None leaves it to the run.

    fps, min_frames, max_frames: frames a second, and how many at least and at most; nframes: so many, in place of
    these; min_pixels, max_pixels: of a frame; total_pixels: of a clip; resized_height, resized_width: the size, rounded
    to multiples of 28, in place of these.
    """

    fps: float | None = None
    nframes: int | None = None
    min_frames: int | None = None
    max_frames: int | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    total_pixels: int | None = None
    resized_height: int | None = None
    resized_width: int | None = None

    @property
    def given(self) -> dict[str, Any]:
        """What is asked for, by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    def limits(self, run: VideoLimits) -> VideoLimits:
        """The run's limits, changed by what is asked for."""
        if not self.given:
            return run
        own = {name: self.given[name] for name in ("min_pixels", "total_pixels") if name in self.given}
        most = min(self.max_frames or run.max_frames, run.max_frames)
        return AskedLimits(**{**dataclasses.asdict(run), **own, "max_frames": most, "asked": self})

    @property
    def resized_hw(self) -> tuple[int, int] | None:
        """The size asked for."""
        height, width = self.resized_height, self.resized_width
        return None if height is None or width is None else (height, width)


NOTHING_ASKED = AskedFrames()


@dataclass(frozen=True)
class AskedLimits(VideoLimits):
    """Limits of a run, changed by what one element asks for."""

    asked: AskedFrames = NOTHING_ASKED

    def question_count(self, n_window: int, average_fps: float) -> int:
        """As smart_nframes of qwen_vl_utils. Raises ValueError for more frames than there are, or are allowed."""
        asked = self.asked
        if asked.nframes is None:
            least = -(-(asked.min_frames or self.min_frames) // FRAME_FACTOR) * FRAME_FACTOR
            return question_count(n_window, average_fps, self.max_frames, asked.fps or self.fps, least)
        n_frames = round(asked.nframes / FRAME_FACTOR) * FRAME_FACTOR
        if not FRAME_FACTOR <= n_frames <= min(n_window, self.max_frames):
            raise ValueError(
                f"nframes {asked.nframes}: {n_frames} frames of {n_window} in the window, and at most "
                f"{self.max_frames} (FPS_MAX_FRAMES); ask for fewer"
            )
        return n_frames

    def most_pixels(self, n_frames: int) -> float:
        """Pixels that a frame may have in a clip of n_frames."""
        most = super().most_pixels(n_frames)
        return min(most, self.asked.max_pixels or most)

    def size_hw(self, height: int, width: int, n_frames: int) -> tuple[int, int]:
        """The size asked for, else the one that the limits give."""
        if self.asked.resized_hw is None:
            return super().size_hw(height, width, n_frames)
        from qwen_vl_utils.vision_process import smart_resize  # imports torch, for which --help need not wait

        size, most = smart_resize(*self.asked.resized_hw, factor=SIZE_FACTOR), self.most_pixels(n_frames)
        if math.prod(size) > most:
            raise ValueError(
                f"resized_height and resized_width ask for {size[0]}x{size[1]}, over the {most:.0f} pixels of a frame "
                f"in a clip of {n_frames} (VIDEO_MAX_PIXELS); ask for less"
            )
        return size
