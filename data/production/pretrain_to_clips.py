"""Captions -> word-timed clips for pre-training: words by even split, cut where nobody speaks, with all earlier speech.

    python -m data.production.pretrain_to_clips videos.jsonl clips.jsonl

A caption's time is shared evenly by its words. Captions with a bracket ("[Music]", "(applause)") and immediate repeats
are left out. A clip ends where the next word ends over 3 s after the last one, has 30 to 240 s and 1 to 4 words a
second. Every word of a video comes out once, in order: in a clip, or in a rejected part with its reason. CPU, thousands
of clips a second and core.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from data.production.clips import Part, cut_at_gaps, cut_by_length, make_parts, milliseconds
from data.production.record import Record, Timed
from data.production.stage import Stage

HAS_BRACKET = re.compile(r"[\[\](){}]").search


@dataclass
class PretrainClipOptions:
    """How captions become clips."""

    max_gap_s: float = field(default=3.0, metadata={"help": "cut where the next word ends so long after the last"})
    min_s: float = field(default=30.0, metadata={"help": "shortest clip"})
    max_s: float = field(default=240.0, metadata={"help": "longest clip"})
    min_words_per_s: float = field(default=1.0, metadata={"help": "slowest speech"})
    max_words_per_s: float = field(default=4.0, metadata={"help": "fastest speech"})
    given_word_times: bool = field(
        default=False, metadata={"help": "use word times that the input brings, in place of an even split"}
    )


class PretrainToClips(Stage):
    """See the module."""

    name, version, Options = "pretrain_to_clips", 1, PretrainClipOptions
    batch_size = 256

    def expand(self, record: Record) -> Iterable[Record]:
        """The parts of a video."""
        if record.words and (self.options.given_word_times or not record.captions):
            words, left_out = record.words, {}
            starts_ms, ends_ms = (milliseconds([word[side] for word in words]) for side in (0, 1))
        else:
            captions, left_out = sort_out(record.captions)
            words, starts_ms, ends_ms = split_evenly(captions)
        if not words and not left_out:
            return [record.reject(self.name, "no_words", "no caption has a word")]
        return [
            *self._left_out(record, left_out),
            *make_parts(record, words, self._parts(words, starts_ms, ends_ms), self.name),
        ]

    def _left_out(self, record: Record, left_out: dict[str, list[Timed]]) -> Iterator[Record]:
        """Captions that are left out, as one rejected part for each reason."""
        for reason, captions in left_out.items():
            part = record.part(reason, [], None, None)
            part.captions = captions
            part.duration_s = round(sum(caption[1] - caption[0] for caption in captions), 3)
            yield part.reject(self.name, reason, f"{len(captions)} captions")

    def _parts(self, words: list[Timed], starts_ms: np.ndarray, ends_ms: np.ndarray) -> list[Part]:
        o, ends_ms = self.options, np.maximum.accumulate(ends_ms)
        return [
            self._part(words, *piece)
            for run in cut_at_gaps(ends_ms, o.max_gap_s)
            for piece in cut_by_length(starts_ms, ends_ms, *run, o.max_s)
        ]

    def _part(self, words: list[Timed], start: int, stop: int) -> Part:
        o, seconds = self.options, round(words[stop - 1][1] - words[start][0], 3)
        speed = (stop - start) / seconds if seconds > 0 else float("inf")
        if seconds < o.min_s:
            return Part(start, stop, "too_short", f"{seconds:.1f} s, at least {o.min_s:g}")
        if seconds > o.max_s:
            return Part(start, stop, "too_long", f"{seconds:.1f} s in one word, at most {o.max_s:g}")
        if speed < o.min_words_per_s:
            return Part(start, stop, "too_slow", f"{speed:.2f} words/s, at least {o.min_words_per_s:g}")
        if speed > o.max_words_per_s:
            return Part(start, stop, "too_fast", f"{speed:.2f} words/s, at most {o.max_words_per_s:g}")
        return Part(start, stop)


def sort_out(captions: Iterable[Timed]) -> tuple[list[Timed], dict[str, list[Timed]]]:
    """Captions that are speech, and the others by reason: "bracketed", "repeated" (the words of the one before).

    Those that are speech have a list of words in place of their text; those without a word are gone.
    """
    speech, left_out, before = [], {}, None
    for caption in captions:
        start_s, end_s, text = caption
        texts = text.split()
        if not texts:
            continue
        if HAS_BRACKET(text):
            left_out.setdefault("bracketed", []).append(caption)
        elif texts == before:
            left_out.setdefault("repeated", []).append(caption)
        else:
            speech.append((start_s, end_s, texts))
            before = texts
    return speech, left_out


def split_evenly(captions: list[Timed]) -> tuple[list[Timed], np.ndarray, np.ndarray]:
    """Words with times in order, from captions with lists of words, and their starts and ends in milliseconds.

    A caption that is still shown when the next one begins ends there; one that begins while another's words last begins
    behind them.
    """
    if not captions:
        return [], milliseconds([]), milliseconds([])
    starts_s, ends_s, texts = zip(*captions, strict=True)
    start, end = np.asarray(starts_s, np.float64), np.asarray(ends_s, np.float64)
    overlaps = (start[:-1] < start[1:]) & (start[1:] < end[:-1])
    end[:-1][overlaps] = start[1:][overlaps]
    end = np.maximum.accumulate(np.maximum(end, start))
    start[1:] = np.maximum(start[1:], end[:-1])
    n_words = np.fromiter(map(len, texts), np.int64, len(texts))
    first = np.repeat(np.cumsum(n_words) - n_words, n_words)
    place = np.arange(len(first)) - first  # of a word in its caption
    step = np.repeat((end - start) / n_words, n_words)
    start = np.repeat(start, n_words)
    starts_ms, ends_ms = (np.rint((start + step * k) * 1000) for k in (place, place + 1))
    times_s = ((edge / 1000).tolist() for edge in (starts_ms, ends_ms))
    words = list(zip(*times_s, chain.from_iterable(texts), strict=True))
    return words, starts_ms.astype(np.int64), ends_ms.astype(np.int64)


STAGE = PretrainToClips

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
