"""Cutting a transcript into clips: what pretrain_to_clips and sft_to_clips share. Every word goes to one part."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.production.record import Record
from data.production.words.transcript import Transcript

ENDS_SENTENCE = re.compile(r"[.?!\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)\]]*$")
FIRST_LETTER = re.compile(r"\w")


@dataclass(frozen=True)
class Part:
    """Words [start, stop) of a transcript; `reason` where they become no clip."""

    start: int
    stop: int
    reason: str = ""
    detail: str = ""


def make_parts(
    record: Record, transcript: Transcript, cut: Callable[[Transcript], Iterable[Part]], stage: str
) -> Iterator[Record]:
    """The parts of a video as records, numbered in their order; a clip has its window and all earlier speech.

    `cut` parts what is said before the picture ends (record.duration_s); what is said behind it is a part of its own.
    """
    seen, behind = transcript.split_at(record.duration_s)
    parts = [(seen, part) for part in cut(seen)]
    if len(behind):
        why = f"{len(behind)} words from {behind.starts_s[0]:.1f} s on, the picture ends at {record.duration_s:.1f} s"
        parts.append((behind, Part(0, len(behind), "beyond_video", why)))
    joined = [" ".join(words.texts[part.start : part.stop]) for words, part in parts]
    text = " ".join(joined)  # earlier speech is a beginning of it
    offset = 0
    for number, ((words, part), said) in enumerate(zip(parts, joined, strict=True)):
        start_s, end_s = words.starts_s[part.start], words.ends_s[part.stop - 1]
        made = record.part(number, words.words(part.start, part.stop), start_s, end_s)
        if part.reason:
            made.reject(stage, part.reason, part.detail)
        else:
            made.previous = text[: max(offset - 1, 0)]
        offset += len(said) + 1
        yield made


def cut_at_gaps(times_ms: np.ndarray, max_gap_s: float) -> list[tuple[int, int]]:
    """Runs [start, stop) of words in which no time is over max_gap_s later than the one before."""
    if not len(times_ms):
        return []
    cuts = (np.flatnonzero(np.diff(times_ms) > round(max_gap_s * 1000)) + 1).tolist()
    return list(zip([0, *cuts], [*cuts, len(times_ms)], strict=True))


def cut_by_length(
    starts_ms: np.ndarray, ends_ms: np.ndarray, start: int, stop: int, max_s: float
) -> Iterator[tuple[int, int]]:
    """A run of words in pieces of at most max_s seconds, each as long as possible; one word is always a piece.

    ends_ms must not decrease.
    """
    while start < stop:
        latest_ms = starts_ms[start] + round(max_s * 1000)
        fits = stop
        if ends_ms[stop - 1] > latest_ms:
            fits = start + int(np.searchsorted(ends_ms[start:stop], latest_ms, side="right"))
        yield start, max(fits, start + 1)
        start = max(fits, start + 1)


def sentence_starts(texts: Sequence[str], start: int, stop: int) -> list[int]:
    """Words of a run that begin a sentence: the run's first, or one behind a sentence's end, unless it is in small
    letters ("The" begins one, and so does "3" or a word of a script without capitals)."""
    found = []
    for i in range(start, stop):
        if i > start and not ENDS_SENTENCE.search(texts[i - 1]):
            continue
        letter = FIRST_LETTER.search(texts[i])
        if letter and not letter.group().islower():
            found.append(i)
    return found
