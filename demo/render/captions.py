"""When a commentary's captions are on screen: arithmetic only.

A caption stands from the moment at which its step was spoken until the next one, for MOST_SHOWN_S at most.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from demo.render.commentary import FinishedCommentary, Spoken
from demo.render.lines import columns, pages

MOST_SHOWN_S = 7.0  # of a caption while nothing new is said, the usual limit of subtitle guides
LEAST_SHOWN_S = 0.5  # of the last captions before the video ends
LINE_COLUMNS = 42  # of a line of subtitles
MOST_LINES = 2

CaptionsAt = Literal["end", "start"]


class Caption(NamedTuple):
    """Lines on screen from start_s until end_s, in seconds of the video, to the millisecond."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]


def captions(commentary: FinishedCommentary, at: CaptionsAt = "end") -> list[Caption]:
    """The captions in order, without overlap; each word of the commentary in exactly one of them.

    at: "end" shows a step's words when it was spoken, as a live viewer read them; "start" beside the seconds that they
    are about. A text longer than two lines becomes several captions, which share its time by their lengths. Where the
    video's duration is known, what would come too late to be seen is moved ahead of its end.
    """
    found = []
    for start_s, end_s, text in spoken_times(commentary, at):
        parts = pages(text, LINE_COLUMNS, MOST_LINES)
        found += _share(start_s, min(end_s, start_s + MOST_SHOWN_S * len(parts)), parts)
    return found


def spoken_times(commentary: FinishedCommentary, at: CaptionsAt = "end") -> list[Spoken]:
    """Each step's text with when it begins to be said or shown and when the next one does (the video's end at last).

    Steps that begin in the same millisecond become one.
    """
    starts = [step.start_s if at == "start" else step.end_s for step in commentary.steps]
    texts: dict[float, str] = {}
    for start, step in sorted(zip(_before_end(starts, commentary), commentary.steps, strict=True)):
        start = round(start, 3)
        texts[start] = f"{texts[start]} {step.text}" if start in texts else step.text
    if not texts:
        return []
    last, end = max(texts), round(commentary.duration_s or 0.0, 3)  # rounded as the starts are
    final = end if end > last else last + MOST_SHOWN_S
    return [Spoken(start, end, texts[start]) for start, end in pairwise([*texts, final])]


def _before_end(starts: Sequence[float], commentary: FinishedCommentary) -> list[float]:
    """The starts, those near or behind the video's end so early that each is seen.

    A step that begins behind the end belongs to another video, and stays where it is.
    """
    if commentary.duration_s is None:
        return list(starts)
    moved, limit_s = list(starts), commentary.duration_s
    within = [i for i in range(len(starts)) if commentary.steps[i].start_s < limit_s]
    least_s = min(LEAST_SHOWN_S, limit_s / (len(within) + 1))
    following = None
    for i in sorted(within, key=starts.__getitem__, reverse=True):
        gap_s = least_s if following is None else min(least_s, starts[following] - starts[i])
        moved[i] = min(starts[i], limit_s - gap_s)
        following, limit_s = i, moved[i]
    return moved


def _share(start_s: float, end_s: float, parts: list[list[str]]) -> list[Caption]:
    """Captions that fill a stretch of time, each by its length."""
    if end_s - start_s < 0.001 * len(parts):
        return [Caption(start_s, end_s, tuple(line for part in parts for line in part))]
    sizes = [sum(columns(line) for line in part) or 1 for part in parts]
    edges = [round(start_s + (end_s - start_s) * sum(sizes[:i]) / sum(sizes), 3) for i in range(len(parts))]
    return [Caption(a, b, tuple(part)) for (a, b), part in zip(pairwise([*edges, end_s]), parts, strict=True)]
