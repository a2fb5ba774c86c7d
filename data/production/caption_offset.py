"""Rejects clips whose captions are late, early, or of other speech: a short sample is heard by speech recognition.

    python -m data.production.caption_offset clips.jsonl timed.jsonl --model base.en

The sample is the middle of the clip (or of a whole video). Each word that is heard votes for the offsets of the same
word among the captions, rare words more than common ones; the offset with most votes, taken to the median of its
matches, is the captions' (above 0: they are late). Support is the share of heard words that match there. Words that
speech recognition made itself need no such check. Hardware: a GPU or CPU cores (4 a worker); time is the recogniser's.
"""

import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from data.production.model_files import local_model, model_fingerprint
from data.production.near_duplicates import WORD
from data.production.record import Record, Timed
from data.production.stage import RecordFailed, Stage, Worker
from data.production.whisper import load_whisper
from data.video.container import VideoError
from data.video.sound import RATE, read_sound
from utils.errors import UserError

BIN_S = 0.1
NEAR_S = 0.5  # matches this close to the best offset are its own
MIN_WORDS = 5  # fewer heard words tell nothing


class Offset(NamedTuple):
    """How late captions are, in seconds, and the share of the heard words that say so."""

    seconds: float
    support: float


@dataclass
class OffsetOptions:
    """Which recogniser, how much it hears, and what is too far off."""

    model: str = field(default="base.en", metadata={"help": "Whisper for faster-whisper: a name, hub id or folder"})
    language: str = field(default="en", metadata={"help": "code of the speech"})
    sample_s: float = field(default=30.0, metadata={"help": "seconds that are heard", "gt": 0})
    search_s: float = field(default=20.0, metadata={"help": "largest offset that is looked for", "gt": 0})
    max_offset_s: float = field(
        default=1.5, metadata={"help": "captions further off reject the clip", "threshold": True}
    )
    min_support: float = field(
        default=0.4, metadata={"help": "share of heard words that the captions must have", "threshold": True}
    )


class CaptionOffset(Stage):
    """Sets scores["caption_offset"] (seconds, above 0: late) and scores["caption_support"] (a share)."""

    name, version, Options = "caption_offset", 1, OffsetOptions
    batch_size, gpus, cpus = 8, 0.25, 4

    def check(self) -> None:
        """Times above 0, and a model that is there."""
        for name in ("sample_s", "search_s", "max_offset_s"):
            if not getattr(self.options, name) > 0:
                raise UserError(f"--{name} {getattr(self.options, name)}: give a number of seconds above 0")
        local_model(self.options.model)

    def fingerprint(self) -> str:
        """The recogniser's files."""
        return model_fingerprint(self.options.model)

    def setup(self, worker: Worker) -> None:
        """Load the recogniser."""
        self._model = load_whisper(self.options.model, worker)

    def expand(self, record: Record) -> Iterable[Record]:
        """Listen, and compare."""
        captions = record.words or spread_words(record.captions)
        if not captions:
            return [record.reject(self.name, "no_words", "there is nothing to compare")]
        heard = self.listen(record, *sample_window(captions, record, self.options.sample_s))
        found = estimate_offset(captions, heard, self.options.search_s)
        if found is None:
            return [record.reject(self.name, "no_speech", f"{len(heard)} words heard in the sample")]
        record.scores["caption_offset"] = round(found.seconds, 2)
        record.scores["caption_support"] = round(found.support, 3)
        return [record]

    def judge(self, record: Record) -> None:
        """Reject captions of other speech, then those that are late or early."""
        offset_s, support = record.scores["caption_offset"], record.scores["caption_support"]
        if support < self.options.min_support:
            detail = f"{support:.0%} of the words heard, at least {self.options.min_support:.0%}"
            record.reject(self.name, "captions_of_other_speech", detail)
        elif abs(offset_s) > self.options.max_offset_s:
            reason = "captions_late" if offset_s > 0 else "captions_early"
            record.reject(self.name, reason, f"{offset_s:+.2f} s, at most {self.options.max_offset_s:g}")

    def listen(self, record: Record, start_s: float, end_s: float) -> list[Timed]:
        """Words heard in a window of the video, on its clock."""
        try:
            sound = read_sound(record.video, start_s, end_s, RATE)
        except VideoError as error:
            raise RecordFailed("broken_video", str(error)) from error
        if sound is None or not len(sound):
            return []
        segments, _ = self._model.transcribe(
            sound, language=self.options.language, beam_size=1, temperature=0.0, word_timestamps=True,
            condition_on_previous_text=False, vad_filter=True,
        )  # fmt: skip
        words = [word for segment in segments for word in segment.words or ()]
        return [[start_s + float(word.start), start_s + float(word.end), word.word.strip()] for word in words]

    def teardown(self) -> None:
        """Free the recogniser."""
        self._model: Any = None


def sample_window(captions: Sequence[Timed], record: Record, sample_s: float) -> tuple[float, float]:
    """The middle of a clip, or of the time in which a video's captions stand."""
    start_s = captions[0][0] if record.start_s is None else record.start_s
    end_s = captions[-1][1] if record.end_s is None else record.end_s
    middle_s = (start_s + end_s) / 2
    return max(start_s, middle_s - sample_s / 2), min(max(end_s, start_s + 1), middle_s + sample_s / 2)


def spread_words(captions: Iterable[Timed]) -> list[Timed]:
    """The captions' words, spread evenly over their times."""
    spread = []
    for start_s, end_s, text in captions:
        words = text.split()
        step_s = (end_s - start_s) / max(1, len(words))
        spread += [[start_s + i * step_s, start_s + (i + 1) * step_s, word] for i, word in enumerate(words)]
    return spread


def estimate_offset(captions: Sequence[Timed], heard: Sequence[Timed], search_s: float = 20.0) -> Offset | None:
    """By how much captions are later than the same words as heard. None where too few words are heard."""
    said = [(start_s, word) for start_s, _, text in heard for word in _plain(text)]
    if len(said) < MIN_WORDS:
        return None
    times: dict[str, list[float]] = defaultdict(list)
    for start_s, _, text in captions:
        for word in _plain(text):
            times[word].append(start_s)
    n_said = Counter(word for _, word in said)
    gaps = [
        (written_s - heard_s, i, 1 / (n_said[word] * len(times[word])))
        for i, (heard_s, word) in enumerate(said)
        for written_s in times[word]
        if abs(written_s - heard_s) <= search_s
    ]
    if not gaps:
        return Offset(0.0, 0.0)
    near = _best_gaps(np.array([gap for gap, _, _ in gaps]), np.array([weight for _, _, weight in gaps]), search_s)
    matched = {i: gap for (gap, i, _), is_near in zip(gaps, near, strict=True) if is_near}
    return Offset(float(statistics.median(matched.values())), len(matched) / len(said))


def _best_gaps(gaps: np.ndarray, weights: np.ndarray, search_s: float) -> np.ndarray:
    """bool [n]: the gaps around the offset that has most votes."""
    n_bins = round(2 * search_s / BIN_S) + 1
    places = np.round((gaps + search_s) / BIN_S).astype(np.int64).clip(0, n_bins - 1)
    votes = np.bincount(places, weights, n_bins)
    # Even splits move words by some tenths of a second, so that a vote counts around its bin as well.
    width = round(NEAR_S / BIN_S)
    smooth = np.convolve(votes, np.bartlett(2 * width + 3)[1:-1], mode="same")
    best_s = int(np.argmax(smooth)) * BIN_S - search_s
    return np.abs(gaps - best_s) <= NEAR_S + BIN_S


def _plain(text: str) -> list[str]:
    return [word.replace("\u2019", "'") for word in WORD.findall(text.lower())]


STAGE = CaptionOffset

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
