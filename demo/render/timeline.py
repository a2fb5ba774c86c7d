"""Layers of the picture over time: words that appear as they are spoken, and questions with their answers.

Arithmetic only; the widths come from what will draw it (painter.py).
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic, NamedTuple, TypeVar

from demo.render.captions import MOST_LINES, MOST_SHOWN_S, CaptionsAt, spoken_times
from demo.render.commentary import FinishedCommentary, QuestionAnswer
from demo.render.lines import SENTENCE_ENDS, Width, pages, wrap

READ_PER_S = 15  # characters of a chat bubble, as subtitle guides count
LEAST_READ_S = 2.5
ASKED_S = 1.0  # a question stands alone before its answer comes
LEAST_CHAT_S = 4.0  # of a question and its answer, before the next ones or the video's end


@dataclass(frozen=True)
class TextArea:
    """Widths and line counts that captions and bubbles may have, in some measure of width."""

    caption_width: float
    measure_caption: Width
    bubble_width: float
    measure_bubble: Width
    question_lines: int
    answer_lines: int


class Words(NamedTuple):
    """A page of captions of which n_shown characters (spaces do not count) have been spoken, n_old of them before."""

    start_s: float
    end_s: float
    lines: tuple[str, ...]
    n_old: int
    n_shown: int


class Exchange(NamedTuple):
    """A question's lines, and its answer's as far as it has come."""

    start_s: float
    end_s: float
    question: tuple[str, ...]
    answer: tuple[str, ...]


Item = TypeVar("Item", Words, Exchange)


class Layer(Generic[Item]):
    """Items of one layer of the picture: in order of time, without overlap."""

    def __init__(self, items: Sequence[Item]):
        self.items = items
        self._starts = [item.start_s for item in items]

    def at(self, time_s: float) -> Item | None:
        """The item shown at a time."""
        place = bisect_right(self._starts, time_s) - 1
        return self.items[place] if place >= 0 and time_s < self.items[place].end_s else None

    def changes(self, after_s: float, before_s: float) -> set[float]:
        """Times between two times at which something appears or goes."""
        first, last = bisect_right(self._starts, after_s) - 1, bisect_right(self._starts, before_s)
        edges = (edge for item in self.items[max(first, 0) : last] for edge in (item.start_s, item.end_s))
        return {edge for edge in edges if after_s < edge < before_s}


def word_layer(commentary: FinishedCommentary, area: TextArea, at: CaptionsAt = "end") -> Layer[Words]:
    """The captions of a video: words stay where they are while the sentence goes on behind them.

    The lines of a page are those of its whole text, so nothing moves. A page ends with a sentence, when it is full, or
    after a silence.
    """
    found = []
    for page in _pages(list(_fragments(commentary, area, at)), area):
        lines = tuple(wrap(" ".join(text for _, _, text in page), area.caption_width, area.measure_caption))
        n_old = 0
        for start_s, end_s, text in page:
            n_shown = n_old + len("".join(text.split()))
            found.append(Words(start_s, end_s, lines, n_old, n_shown))
            n_old = n_shown
    return Layer(found)


def _fragments(commentary: FinishedCommentary, area: TextArea, at: CaptionsAt) -> Iterator[tuple[float, float, str]]:
    """(start_s, end_s, text) of each step, in parts that fit on a page."""
    for start_s, end_s, text in spoken_times(commentary, at):
        parts = [" ".join(lines) for lines in pages(text, area.caption_width, MOST_LINES, area.measure_caption)]
        end_s = min(end_s, start_s + MOST_SHOWN_S * len(parts))
        edges = _edges(start_s, end_s, [len(part) for part in parts])
        yield from ((a, b, part) for (a, b), part in zip(pairwise(edges), parts, strict=True))


def _pages(fragments: list[tuple[float, float, str]], area: TextArea) -> list[list[tuple[float, float, str]]]:
    found: list[list[tuple[float, float, str]]] = []
    for fragment in fragments:
        page = found[-1] if found else []
        text = " ".join([*(text for _, _, text in page), fragment[2]])
        goes_on = page and not page[-1][2].endswith(SENTENCE_ENDS) and page[-1][1] >= fragment[0] - 1e-6
        if goes_on and len(wrap(text, area.caption_width, area.measure_caption)) <= MOST_LINES:
            page.append(fragment)
        else:
            found.append([fragment])
    return found


def chat_layer(commentary: FinishedCommentary, area: TextArea) -> Layer[Exchange]:
    """Questions and answers as bubbles: each from when it was asked, long enough to be read where there is time.

    An answer longer than its bubble comes in several parts. What was asked at the very end, or while another answer
    stood, is moved so that it is seen.
    """
    parts = [_parts(asked, area) for asked in commentary.questions]
    needs = [sum(need for need, _, _ in one) for one in parts]
    spans = _spans([asked.asked_s for asked in commentary.questions], needs, commentary.duration_s)
    found = []
    for (start_s, end_s), one in zip(spans, parts, strict=True):
        edges = _edges(start_s, end_s, [need for need, _, _ in one])
        shown = zip(pairwise(edges), one, strict=True)
        found += [Exchange(a, b, question, answer) for (a, b), (_, question, answer) in shown]
    return Layer(found)


def _parts(asked: QuestionAnswer, area: TextArea) -> list[tuple[float, tuple[str, ...], tuple[str, ...]]]:
    """(seconds to read, question, answer) of what is shown one after the other."""
    measure = area.measure_bubble
    questions = [tuple(page) for page in pages(asked.question, area.bubble_width, area.question_lines, measure)] or [()]
    answers = [tuple(page) for page in pages(asked.answer, area.bubble_width, area.answer_lines, measure)]
    before = [(_reading_s(page), page, ()) for page in questions[:-1]]
    after = [(_reading_s(page), questions[-1], page) for page in answers]
    return [*before, (ASKED_S if answers else _reading_s(questions[-1]), questions[-1], ()), *after]


def _reading_s(lines: Sequence[str]) -> float:
    return max(LEAST_READ_S, sum(len(line) for line in lines) / READ_PER_S)


def _spans(asked_s: list[float], needs: list[float], duration_s: float) -> list[tuple[float, float]]:
    """(start_s, end_s) of each, in order, without overlap: as near to when it was asked as there is time to see it."""
    if not needs:
        return []
    least = [min(need, LEAST_CHAT_S, duration_s / len(needs)) for need in needs]
    starts: list[float] = []
    for i, time_s in enumerate(asked_s):
        starts.append(max(time_s, starts[-1] + least[i - 1]) if starts else time_s)
    limit_s = duration_s
    for i in reversed(range(len(starts))):
        starts[i] = limit_s = max(0.0, min(starts[i], limit_s - least[i]))
    ends = [
        min(start + need, following)
        for start, need, following in zip(starts, needs, [*starts[1:], duration_s], strict=True)
    ]
    return list(zip(starts, ends, strict=True))


def _edges(start_s: float, end_s: float, shares: Sequence[float]) -> list[float]:
    """Where parts begin that fill a stretch of time by their shares, and the end of the last."""
    total = sum(shares)
    return [start_s + (end_s - start_s) * sum(shares[:i]) / total for i in range(len(shares))] + [end_s]
