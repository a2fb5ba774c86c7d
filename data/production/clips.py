"""Cutting a transcript into clips: what pretrain_to_clips and sft_to_clips share. Every word goes to one part."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from data.production.record import Record, Timed

ENDS_SENTENCE = re.compile(r"[.?!\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)\]]*$")
FIRST_LETTER = re.compile(r"\w")


@dataclass(frozen=True)
class Part:
    """Words [start, stop) of a transcript; `reason` where they become no clip."""

    start: int
    stop: int
    reason: str = ""
    detail: str = ""


def make_parts(record: Record, words: list[Timed], parts: Sequence[Part], stage: str) -> Iterator[Record]:
    """The parts as records, numbered in their order; a clip has its window and all earlier speech."""
    text = " ".join([word[2] for word in words])
    # Where each word begins in that text, so that earlier speech is one slice of it.
    offsets = [0, *accumulate([len(word[2]) + 1 for word in words])]
    for number, part in enumerate(parts):
        inside = words[part.start : part.stop]
        window = {"start_s": inside[0][0], "end_s": max(inside[-1][1], inside[0][0])}
        if part.reason:
            yield record.part(number, inside, **window).reject(stage, part.reason, part.detail)
        else:
            yield record.part(number, inside, previous=text[: max(offsets[part.start] - 1, 0)], **window)


def cut_at_gaps(times_s: Sequence[float], max_gap_s: float) -> list[tuple[int, int]]:
    """Runs [start, stop) of words in which no time is over max_gap_s later than the one before."""
    cuts = [i for i, (a, b) in enumerate(pairwise(times_s), start=1) if b - a > max_gap_s]
    return list(zip([0, *cuts], [*cuts, len(times_s)], strict=True)) if times_s else []


def cut_by_length(words: Sequence[Timed], start: int, stop: int, max_s: float) -> Iterator[tuple[int, int]]:
    """A run of words in pieces of at most max_s seconds, each as long as possible; one word is always a piece."""
    while start < stop:
        latest_s = words[start][0] + max_s
        end = start + 1
        if words[stop - 1][1] <= latest_s:
            end = stop
        while end < stop and words[end][1] <= latest_s:
            end += 1
        yield start, end
        start = end


def pace(words: Sequence[Timed]) -> float:
    """Words per second from the first word's start to the last word's end."""
    seconds = words[-1][1] - words[0][0]
    return len(words) / seconds if seconds > 0 else float("inf")


def sentence_starts(words: Sequence[Timed], start: int, stop: int) -> list[int]:
    """Words of a run that begin a sentence: the run's first, or one behind a sentence's end, unless it is in small
    letters ("The" begins one, and so does "3" or a word of a script without capitals)."""
    found = []
    for i in range(start, stop):
        if i > start and not ENDS_SENTENCE.search(words[i - 1][2]):
            continue
        letter = FIRST_LETTER.search(words[i][2])
        if letter and not letter.group().islower():
            found.append(i)
    return found
