"""Captions -> word-timed clips for pre-training: words by even split, cut where nobody speaks, with all earlier speech.

    python -m data.production.pretrain_to_clips videos.jsonl clips.jsonl

A caption's time is shared evenly by its words. Captions with a bracket ("[Music]", "(applause)") and immediate repeats
are left out. A clip ends where the next word ends over 3 s after the last one, has 30 to 240 s and 1 to 4 words a
second. Every word of a video comes out once, in order: in a clip, or in a rejected part with its reason. CPU, thousands
of clips a second and core.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from data.production.clips import Part, cut_at_gaps, cut_by_length, make_parts, pace
from data.production.record import Record, Timed
from data.production.stage import Stage

BRACKETS = frozenset("[](){}")


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
        else:
            captions, left_out = sort_out(record.captions)
            words = split_evenly(captions)
        if not words and not left_out:
            return [record.reject(self.name, "no_words", "no caption has a word")]
        return [*self._left_out(record, left_out), *make_parts(record, words, self._parts(words), self.name)]

    def _left_out(self, record: Record, left_out: dict[str, list[Timed]]) -> Iterator[Record]:
        """Captions that are left out, as one rejected part for each reason."""
        for reason, captions in left_out.items():
            seconds = sum(caption[1] - caption[0] for caption in captions)
            own = {"captions": captions, "words": [], "duration_s": round(seconds, 3), "scores": {}, "extra": {}}
            part = replace(record, id=f"{record.id}#{reason}", flags=[], **own)
            yield part.reject(self.name, reason, f"{len(captions)} captions")

    def _parts(self, words: list[Timed]) -> list[Part]:
        o = self.options
        return [
            self._part(words, *piece)
            for run in cut_at_gaps([word[1] for word in words], o.max_gap_s)
            for piece in cut_by_length(words, *run, o.max_s)
        ]

    def _part(self, words: list[Timed], start: int, stop: int) -> Part:
        o, inside = self.options, words[start:stop]
        seconds, speed = inside[-1][1] - inside[0][0], pace(inside)
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
    """Captions that are speech, and the others by reason: "bracketed", "repeated" (the text of the one before)."""
    speech, left_out, before = [], {}, None
    for caption in captions:
        text = " ".join(caption[2].split())
        if not text:
            continue
        if not BRACKETS.isdisjoint(text):
            left_out.setdefault("bracketed", []).append(caption)
        elif text == before:
            left_out.setdefault("repeated", []).append(caption)
        else:
            speech.append(caption)
            before = text
    return speech, left_out


def split_evenly(captions: list[Timed]) -> list[Timed]:
    """Words with times, in milliseconds' precision and in order: a caption that is still shown when the next one begins
    ends there; one that begins while another's words last begins behind them."""
    words: list[Timed] = []
    last_s = 0.0
    for i, (start_s, end_s, text) in enumerate(captions):
        if i + 1 < len(captions) and start_s < captions[i + 1][0] < end_s:
            end_s = captions[i + 1][0]
        texts = text.split()
        start_s = max(start_s, last_s)
        last_s = max(end_s, start_s)
        step_s = (last_s - start_s) / len(texts)
        edges = [round(start_s + step_s * k, 3) for k in range(len(texts) + 1)]
        words += zip(edges, edges[1:], texts, strict=False)
        last_s = edges[-1]
    return words


STAGE = PretrainToClips

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
