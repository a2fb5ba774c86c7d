"""Captions -> word-timed clips for pre-training: words by even split, cut where nobody speaks, with all earlier speech.

    python -m data.production.pretrain_to_clips videos.jsonl clips.jsonl

A caption's time is shared evenly by its words. Captions with a bracket ("[Music]", "(applause)") and immediate repeats
are left out. A clip ends where the next word ends over 3 s after the last one, has 30 to 240 s and 1 to 4 words a
second, and ends with the picture at the latest. Every word of a video comes out once, in order: in a clip, or in a
rejected part with its reason. CPU, thousands of clips a second and core.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress, pairwise
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from data.production.record import Record
from data.production.stage import Stage
from data.production.words.clips import Part, cut_at_gaps, cut_by_length, make_parts
from data.production.words.packed_words import Timed
from data.production.words.transcript import Transcript, transcript_of

BRACKETS = "[](){}"


@dataclass
class PretrainClipOptions:
    """How captions become clips."""

    max_gap_s: float = field(default=3.0, metadata={"help": "cut where the next word ends so long after the last"})
    min_s: float = field(default=30.0, metadata={"help": "shortest clip"})
    max_s: float = field(default=240.0, metadata={"help": "longest clip", "gt": 0})
    min_words_per_s: float = field(default=1.0, metadata={"help": "slowest speech"})
    max_words_per_s: float = field(default=4.0, metadata={"help": "fastest speech", "gt": 0})
    given_word_times: bool = field(
        default=False, metadata={"help": "use word times that the input brings, in place of an even split"}
    )


class PretrainToClips(Stage):
    """See the module."""

    name, version, Options = "pretrain_to_clips", 2, PretrainClipOptions

    def process(self, records: list[Record]) -> list[list[Record]]:
        """The parts of each video; word times of all of them are computed at once, which takes a fifth of the time."""
        speeches = [self._speech(record) for record in records]
        evenly = iter(split_evenly([speech for speech in speeches if speech is not None]))
        return [
            list(self._clips(record, transcript_of(record.words) if speech is None else next(evenly), speech))
            for record, speech in zip(records, speeches, strict=True)
        ]

    def _speech(self, record: Record) -> "Speech | None":
        """What is spoken by its captions; None where the record's own words are used."""
        if record.words and (self.options.given_word_times or not record.captions):
            return None
        return sort_out(record.captions)

    def _clips(self, record: Record, transcript: Transcript, speech: "Speech | None") -> Iterable[Record]:
        left_out = speech.left_out if speech else {}
        if not len(transcript) and not left_out:
            return [record.reject(self.name, "no_words", "no caption has a word")]
        parts = make_parts(record, transcript, self._parts, self.name)
        return chain(self._left_out(record, left_out), parts)

    def _left_out(self, record: Record, left_out: dict[str, list[Timed]]) -> Iterator[Record]:
        """Captions that are left out, as one rejected part for each reason."""
        for reason, captions in left_out.items():
            part = record.part(reason, [], None, None)
            part.captions = captions
            part.duration_s = round(sum(caption[1] - caption[0] for caption in captions), 3)
            yield part.reject(self.name, reason, f"{len(captions)} captions")

    def _parts(self, transcript: Transcript) -> list[Part]:
        o, ends_ms = self.options, np.maximum.accumulate(transcript.ends_ms)
        return [
            self._part(transcript, *piece)
            for run in cut_at_gaps(ends_ms, o.max_gap_s)
            for piece in cut_by_length(transcript.starts_ms, ends_ms, *run, o.max_s)
        ]

    def _part(self, words: Transcript, start: int, stop: int) -> Part:
        o, seconds = self.options, round(words.ends_s[stop - 1] - words.starts_s[start], 3)
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


@dataclass(slots=True)
class Speech:
    """The captions of a video that are speech, as columns: starts, ends and numbers of words; and all the words.

    left_out: other captions by reason: "bracketed", "repeated" (the words of the one before them).
    """

    starts_s: list[float]
    ends_s: list[float]
    n_words: list[int]
    texts: list[str]
    left_out: dict[str, list[Timed]]


def sort_out(captions: Sequence[Timed]) -> Speech:
    """What is speech and what is not; captions without a word are gone."""
    starts_s, ends_s, texts = zip(*captions, strict=True) if captions else ((), (), ())
    lines, bracketed = list(map(str.split, texts)), with_brackets(texts)
    spoken = [bool(line) and i not in bracketed for i, line in enumerate(lines)]
    places = list(compress(range(len(lines)), spoken))
    repeated = {i for before, i in pairwise(places) if lines[before] == lines[i]}
    for i in repeated:
        spoken[i] = False
    starts_s, ends_s, lines = (list(compress(column, spoken)) for column in (starts_s, ends_s, lines))
    left_out = {"bracketed": bracketed, "repeated": repeated}
    return Speech(
        starts_s,
        ends_s,
        list(map(len, lines)),
        list(chain.from_iterable(lines)),
        {reason: [captions[i] for i in sorted(places)] for reason, places in left_out.items() if places},
    )


def with_brackets(texts: Sequence[str]) -> set[int]:
    """Numbers of the captions that have a bracket."""
    everything = "".join(texts)
    marks = [mark for mark in BRACKETS if mark in everything]
    return {i for mark in marks for i, text in enumerate(texts) if mark in text}


def split_evenly(speeches: Sequence[Speech]) -> list[Transcript]:
    """The words of videos with a share of their caption's time each.

    A caption that is still shown when the next one begins ends there; one that begins while another's words last begins
    behind them.
    """
    start, end = (
        np.fromiter(chain.from_iterable(getattr(speech, side) for speech in speeches), np.float64)
        for side in ("starts_s", "ends_s")
    )
    n_lines = [len(speech.n_words) for speech in speeches]
    untangle(start, end, np.cumsum([0, *n_lines]))
    n_words = np.fromiter(chain.from_iterable(speech.n_words for speech in speeches), np.int64)
    first = np.repeat(np.cumsum(n_words) - n_words, n_words)
    place = np.arange(len(first)) - first  # of a word in its caption
    step = np.repeat((end - start) / n_words, n_words)
    start = np.repeat(start, n_words)
    starts_ms, ends_ms = (np.rint((start + step * k) * 1000) for k in (place, place + 1))
    starts_s, ends_s = ((edge / 1000).tolist() for edge in (starts_ms, ends_ms))
    starts_ms, ends_ms = starts_ms.astype(np.int64), ends_ms.astype(np.int64)
    made, at = [], 0
    for speech in speeches:
        here = slice(at, at + len(speech.texts))
        made.append(Transcript(speech.texts, starts_s[here], ends_s[here], starts_ms[here], ends_ms[here]))
        at = here.stop
    return made


def untangle(start: np.ndarray, end: np.ndarray, edges: np.ndarray) -> None:
    """Change starts and ends of captions so that none overlap. Video k has captions edges[k] to edges[k + 1]."""
    is_inside = np.ones(max(len(start) - 1, 0), bool)  # whether a caption and the next one are of the same video
    is_inside[edges[1:-1][(edges[1:-1] > 0) & (edges[1:-1] < len(start))] - 1] = False
    overlaps = is_inside & (start[:-1] < start[1:]) & (start[1:] < end[:-1])
    end[:-1][overlaps] = start[1:][overlaps]
    np.maximum(end, start, out=end)
    rest = np.flatnonzero(is_inside & (start[1:] < end[:-1]))
    for video in np.unique(np.searchsorted(edges, rest, side="right") - 1):
        here = slice(edges[video], edges[video + 1])
        end[here] = np.maximum.accumulate(end[here])
        start[here][1:] = np.maximum(start[here][1:], end[here][:-1])


STAGE = PretrainToClips

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
