"""Words with times (from speech recognition) -> clips for SFT that start where a sentence starts.

    python -m data.production.sft_to_clips words.jsonl clips.jsonl

Cut at gaps over 3 s between the starts of words. A clip has 30 to 240 s, starts at a sentence's start ("The" is one),
and where speech goes on for longer it ends with the last sentence that fits, so that the next clip starts with the
next; no clip goes on behind the end of the picture. Every word of a video comes out once, in order: in a clip, or in a
rejected part with its reason. CPU, thousands of clips a second and core.
"""

import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.record import Record
from data.production.stage import Stage
from data.production.words.clips import Part, cut_at_gaps, make_parts, sentence_starts
from data.production.words.transcript import Transcript, transcript_of


@dataclass
class SftClipOptions:
    """How words become clips."""

    max_gap_s: float = field(default=3.0, metadata={"help": "cut at gaps over this between the starts of words"})
    min_s: float = field(default=30.0, metadata={"help": "shortest clip"})
    max_s: float = field(default=240.0, metadata={"help": "longest clip", "gt": 0})


class SftToClips(Stage):
    """See the module."""

    name, version, Options = "sft_to_clips", 2, SftClipOptions

    def expand(self, record: Record) -> Iterable[Record]:
        """The parts of a video."""
        if not record.words:
            return [record.reject(self.name, "no_words", "nobody speaks")]
        return list(make_parts(record, transcript_of(record.words), self._cut, self.name))

    def _cut(self, words: Transcript) -> Iterator[Part]:
        for run in cut_at_gaps(words.starts_ms, self.options.max_gap_s):
            yield from self._parts(words, *run)

    def _parts(self, words: Transcript, start: int, stop: int) -> Iterator[Part]:
        """The parts of words spoken without a gap."""
        starts = sentence_starts(words.texts, start, stop)
        while start < stop:
            at = bisect_right(starts, start - 1)  # the first sentence from here on
            if at == len(starts):
                yield Part(start, stop, "no_sentence_start", "no word here starts a sentence")
                return
            if starts[at] > start:
                yield Part(start, starts[at], "before_first_sentence", "words before the first sentence's start")
                start = starts[at]
            end = self._end(words, starts, start, stop)
            yield self._part(words, start, end)
            start = end

    def _end(self, words: Transcript, starts: list[int], start: int, stop: int) -> int:
        """Where a clip from `start` ends: with the words, else before a sentence, else where its time is over."""
        latest_s = words.starts_s[start] + self.options.max_s
        fits = start + 1
        while fits < stop and words.ends_s[fits] <= latest_s:
            fits += 1
        if fits == stop:
            return stop
        last = starts[bisect_right(starts, fits) - 1]  # the last sentence start up to there
        is_long = last > start and words.ends_s[last - 1] - words.starts_s[start] >= self.options.min_s
        return last if is_long else fits

    def _part(self, words: Transcript, start: int, stop: int) -> Part:
        seconds = words.ends_s[stop - 1] - words.starts_s[start]
        if seconds < self.options.min_s:
            return Part(start, stop, "too_short", f"{seconds:.1f} s, at least {self.options.min_s:g}")
        if seconds > self.options.max_s:
            return Part(start, stop, "too_long", f"{seconds:.1f} s in one word, at most {self.options.max_s:g}")
        return Part(start, stop)


STAGE = SftToClips

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
