"""Samples of a report: items answered rightly and wrongly, their frames where the video is there, and their worth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data.preview.page import thumbnail
from data.video.clip import VideoError, read_clip
from data.video.frame_folder import read_frame_folder
from data.video.frame_plan import SIZE_FACTOR, Clip, VideoLimits
from evaluation.scoring.preference import DECIDED
from evaluation.scoring.results import ItemResult
from evaluation.scoring.score_lines import percent
from evaluation.scoring.scored_runs import ScoredRun

N_FRAMES = 4
LIMITS = VideoLimits(36 * SIZE_FACTOR**2, 100 * N_FRAMES * SIZE_FACTOR**2, max_frames=N_FRAMES)


@dataclass(frozen=True)
class Frame:
    """A small picture as a data address, and its time in the video."""

    time_s: float
    address: str


@dataclass(frozen=True)
class SampleView:
    """An item with each run's result of it. note: why there are no frames."""

    id: str
    answers: list[tuple[ScoredRun, ItemResult]]
    frames: list[Frame]
    note: str = ""


def choose_samples(scored: Sequence[ScoredRun], n_samples: int) -> list[SampleView]:
    """Samples of one benchmark, half of them from those that the first result got wrong, evenly over each half."""
    first = scored[0].run.results
    wrong = [result.id for result in first if result.value < 0.5]
    right = [result.id for result in first if result.value >= 0.5]
    n_wrong = min(len(wrong), max(n_samples // 2, n_samples - len(right)))
    chosen = {*spread(wrong, n_wrong), *spread(right, n_samples - n_wrong)}
    names = [result.id for result in first if result.id in chosen]
    found = [{result.id: result for result in one.run.results if result.id in chosen} for one in scored]
    samples = []
    for name in tqdm(names, desc="samples", unit="item", delay=5):
        answers = [(one, results[name]) for one, results in zip(scored, found, strict=True) if name in results]
        frames, note = read_frames(answers[0][1].shown.get("clip"))
        samples.append(SampleView(name, answers, frames, note))
    return samples


def spread(names: Sequence[str], n: int) -> list[str]:
    """n of the names, or all, evenly."""
    n = min(n, len(names))
    return [names[i * len(names) // n] for i in range(n)]


def read_frames(clip: object) -> tuple[list[Frame], str]:
    """Small frames of the clip that an item's result names (a ClipPlan's fields), or why there are none.

    Result files may come from anyone: only plain local files and folders are opened.
    """
    if not isinstance(clip, dict) or not isinstance(clip.get("video"), str):
        return [], ""
    try:
        read = _read(clip)
    except (VideoError, OSError, TypeError, ValueError) as error:
        return [], f"no frames: {error}"
    times = read.times_s.tolist()
    n_shown = len(times) - read.plan.n_padded
    return [Frame(t, thumbnail(frame)) for t, frame in zip(times[:n_shown], read.frames[:n_shown], strict=True)], ""


def _read(clip: dict) -> Clip:
    path, window = Path(clip["video"]), (clip.get("start_s"), clip.get("end_s"))
    if clip.get("folder_fps") is not None:
        return read_frame_folder(path, float(clip["folder_fps"]), *window, limits=LIMITS)
    if not path.is_file():
        raise VideoError(f"{path}: no such file any more")
    return read_clip(path, *window, limits=LIMITS, rule="question")


def is_right(result: ItemResult, option: object) -> bool:
    """Whether an option is the true one, "B" or "B. text"."""
    truth = result.truth
    return truth is not None and (str(option) == str(truth) or str(option).startswith(f"{truth}."))


def worth(result: ItemResult) -> str:
    """Worth of a result: a word, or per cent where it is in between."""
    words = ("lost", "won") if "ab" in result.shown else ("wrong", "right")
    return {0.0: words[0], 1.0: words[1]}.get(result.value) or percent(result.value)


def confidence(result: ItemResult) -> str:
    """The probability of the chosen option among the options; "" where it is not known."""
    logits = result.shown.get("logits")
    if not isinstance(logits, dict) or result.answer not in logits:
        return ""
    highest = max(logits.values())
    total = sum(math.exp(value - highest) for value in logits.values())
    share = math.exp(logits[result.answer] - highest) / total
    return f"probability {share:.2f} among {len(logits)} options"


def verdict(result: ItemResult) -> str:
    """Verdicts on a judged commentary in each order; "" where there are none."""
    return ", ".join(
        f"{order}: {result.shown[name]}{' won' if result.shown[name] in DECIDED else ''}"
        for name, order in (("ab", "shown first"), ("ba", "shown second"))
        if name in result.shown
    )


def spoken_steps(result: ItemResult) -> list[tuple[str, str, str]] | None:
    """(start, end, text) of the steps that are not silent; None where the result is no commentary by steps."""
    steps = result.shown.get("steps")
    if not (isinstance(steps, list) and steps and all(isinstance(step, list) and len(step) == 3 for step in steps)):
        return None
    return [(_second(start_s), _second(end_s), str(text)) for start_s, end_s, text in steps if str(text).strip(" .")]


def _second(time_s: object) -> str:
    return f"{time_s:.0f}" if isinstance(time_s, int | float) else str(time_s)
