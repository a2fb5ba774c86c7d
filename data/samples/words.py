"""Timed words and the steps of a stream: which word is spoken at which step, and how a step is named."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from data.video.frame_plan import FPS

SILENCE = " ..."  # ends the speech of every step; alone it says "nothing to say yet"
FIRST_STEP_FRAMES = 6  # 3 s
STEP_FRAMES = 2  # 1 s
LATE_S = 0.5  # the last step also takes words that end this long after its last frame
DOTS = ".\u2026"
# A step's label and its speech on one line: how a whole commentary is written as one text.
TIMED_TEXT = re.compile(r"Time=(?P<start>\d+\.\d)-(?P<end>\d+\.\d)s ?(?P<text>.*)")


class Word(NamedTuple):
    """A spoken word with its start and end in seconds of the video's own clock."""

    start_s: float
    end_s: float
    text: str


def step_slices(n_frames: int) -> list[slice]:
    """Frames of each step: the first 6, then 2 each; fewer than 6 frames are one step.

    n_frames is even and positive; ValueError otherwise.
    """
    if n_frames <= 0 or n_frames % 2:
        raise ValueError(f"{n_frames} frames: a stream needs an even, positive number")
    first = min(n_frames, FIRST_STEP_FRAMES)
    return [slice(0, first)] + [slice(i, i + STEP_FRAMES) for i in range(first, n_frames, STEP_FRAMES)]


def step_window(step: int) -> tuple[float, float]:
    """Start and end of a step in seconds from the stream's start: 0-3, 3-4, 4-5, ..."""
    first_s = FIRST_STEP_FRAMES / FPS
    return (0.0, first_s) if step == 0 else (first_s + step - 1, first_s + step)


def step_label(start_s: float, end_s: float) -> str:
    """The text that opens a step's turn, such as "Time=0.0-3.0s" (seconds from the stream's start)."""
    return f"Time={start_s:.1f}-{end_s:.1f}s"


def words_by_step(
    words: Sequence[Word], step_end_times_s: Sequence[float], start_s: float = 0.0
) -> tuple[list[str], Counter]:
    """The speech of every step, each ending in " ...", and counts of the words that are not spoken.

    words: in order of their start. step_end_times_s: the time of each step's last frame, not decreasing. start_s:
    where the clip starts.
    A word belongs to the first step whose last frame is not earlier than the word's end, and never to a step
    before the one of the word it follows, so that nested words keep their order. The last step also takes
    words that end up to 0.5 s after its last frame.
    Counts: "spoken", "dots" (a word of dots only would end a turn by accident), "empty", "outside" (before or after
    the clip), and "before" (those of them that end before it starts).
    """
    steps: list[list[str]] = [[] for _ in step_end_times_s]
    counts = Counter(spoken=0, dots=0, empty=0, outside=0, before=0)
    latest = 0
    for word in words:
        text = " ".join(word.text.split())
        fate = _fate(text, word, start_s, step_end_times_s)
        counts[fate] += 1
        counts["before"] += fate == "outside" and _is_before(word, start_s)
        if fate == "spoken":
            latest = max(latest, min(bisect_left(step_end_times_s, word.end_s), len(steps) - 1))
            steps[latest].append(text)
    return [" ".join(step) + SILENCE for step in steps], counts


def frames_without_hole(times_s: Sequence[float]) -> int:
    """How many of these frames follow each other on the grid: a live source leaves out what it did not get."""
    holes = (i for i in range(1, len(times_s)) if times_s[i] - times_s[i - 1] > 1.5 / FPS)
    return next(holes, len(times_s))


def cut_trailing_silence(texts: Sequence[str]) -> list[str]:
    """The steps up to the last one that says something; none if all are silent."""
    n_kept = max((i + 1 for i, text in enumerate(texts) if text != SILENCE), default=0)
    return list(texts[:n_kept])


def _fate(text: str, word: Word, start_s: float, step_end_times_s: Sequence[float]) -> str:
    if not text:
        return "empty"
    if not text.strip(DOTS + " "):
        return "dots"
    is_late = not len(step_end_times_s) or word.end_s > step_end_times_s[-1] + LATE_S
    return "outside" if is_late or _is_before(word, start_s) else "spoken"


def _is_before(word: Word, start_s: float) -> bool:
    """Whether a word has ended when the clip starts; one without a length belongs to the moment at which it starts."""
    return word.end_s <= start_s and word.start_s < start_s
