"""Rejects clips whose picture stands still: slides, cover art, a scoreboard with a voice.

    python -m data.production.motion_score clips.jsonl moving.jsonl --min_motion 0.25

At up to twelve moments of a clip two frames half a second apart are compared, grey and 160 pixels wide; there is motion
if 0.5 % of the pixels change by more than 10 of 255 levels, which coding noise does not. The score is the share of
moments with motion: 0 for a slide show whose slides stay for seconds, 1 for a camera. CPU; time is decoding's
(keyframes are chosen where the file has enough of them), figures in dev/benchmarks/production.md.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import cv2
import numpy as np

from data.production.record import Record
from data.production.stage import RecordFailed, Stage
from data.video.clip import VideoError, VideoFile
from data.video.frame_plan import FrameTable
from utils.errors import UserError

WIDTH = 160
LEVELS = 10  # of 255
APART_S = 0.5


@dataclass
class MotionOptions:
    """How much must move."""

    min_motion: float = field(
        default=0.25, metadata={"help": "share of moments with motion; fewer reject the clip", "threshold": True}
    )
    n_moments: int = field(default=12, metadata={"help": "moments that are looked at", "ge": 2})
    min_pixels: float = field(default=0.005, metadata={"help": "share of pixels that must change", "le": 1})


class MotionScore(Stage):
    """Sets scores["motion"]."""

    name, version, Options = "motion_score", 1, MotionOptions
    batch_size = 8

    def check(self) -> None:
        """At least one moment."""
        if self.options.n_moments < 1:
            raise UserError(f"--n_moments {self.options.n_moments}: give a number from 1 on")

    def expand(self, record: Record) -> Iterable[Record]:
        """Look at the clip's frames."""
        try:
            changes = frame_changes(record.video, record.start_s, record.end_s, self.options.n_moments)
        except VideoError as error:
            raise RecordFailed("broken_video", str(error)) from error
        record.scores["motion"] = round(float(np.mean(changes >= self.options.min_pixels)), 4)
        return [record]

    def judge(self, record: Record) -> None:
        """Reject what stands still."""
        motion = record.scores["motion"]
        if motion < self.options.min_motion:
            record.reject(self.name, "still_picture", f"motion {motion:.2f}, at least {self.options.min_motion:g}")


def frame_changes(path: str, start_s: float | None, end_s: float | None, n_moments: int) -> np.ndarray:
    """Share of the pixels that change within half a second, at each of several moments: float64 [at most n_moments].

    Raises VideoError for a file without frames in the window.
    """
    with VideoFile(path) as video:
        pairs = choose_pairs(video.table, start_s, end_s, n_moments)
        if not len(pairs):
            raise VideoError(f"{path}: no two frames between {start_s or 0:g} and {end_s or video.table.last_s:g} s")
        shares = []
        for pair in pairs:  # two full-size frames in memory at once
            before, after = (_small_grey(frame) for frame in video.read(pair).numpy())
            shares.append(np.mean(cv2.absdiff(before, after) > LEVELS))
    return np.array(shares)


def _small_grey(frame: np.ndarray) -> np.ndarray:
    """uint8 [3, H, W] to uint8 [h, 160]; whole pixels are averaged, which takes the coding's grain away."""
    grey = cv2.cvtColor(np.ascontiguousarray(frame.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
    size = (WIDTH, max(1, round(WIDTH * grey.shape[0] / grey.shape[1])))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def choose_pairs(table: FrameTable, start_s: float | None, end_s: float | None, n_moments: int) -> np.ndarray:
    """Frames that are compared, int64 [n, 2]: the second is on screen half a second after the first.

    Moments are spread evenly over the window, and moved to the keyframe before them if it lies in the same stretch.
    """
    times_s = table.start_ticks * float(table.time_base)
    start_s = times_s[0] if start_s is None else start_s
    end_s = table.last_s if end_s is None else end_s
    inside = np.flatnonzero((times_s >= start_s - 1e-6) & (times_s <= end_s))
    if len(inside) < 2:
        return np.zeros((0, 2), np.int64)
    edges = np.linspace(0, len(inside), n_moments + 1).astype(np.int64)
    pairs = []
    for low, high in pairwise(edges):
        stretch = inside[low:high]
        if not len(stretch):
            continue
        keyframes = stretch[table.keyframe[stretch]]
        first = int(keyframes[len(keyframes) // 2] if len(keyframes) else stretch[len(stretch) // 2])
        second = int(np.searchsorted(times_s, times_s[first] + APART_S, side="right")) - 1
        if second > inside[-1]:  # at the end of the window: the half second before
            first, second = int(np.searchsorted(times_s, times_s[inside[-1]] - APART_S, side="right")) - 1, inside[-1]
        second = max(second, first + 1)
        if inside[0] <= first and second <= inside[-1]:
            pairs.append((first, second))
    return np.array(pairs or [(inside[0], inside[-1])], np.int64)


STAGE = MotionScore

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
