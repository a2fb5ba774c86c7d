"""Cues that show again what the one before has shown, as cues that say each word once.

Three kinds: lines that roll through several cues (YouTube's automatic captions); one line in a cue for each of its
words, that word marked (whisper's and whisperX's --highlight_words, stable-ts); one line in several cues that follow
each other.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from data.production.words.cues import TAG, CaptionLine, Cue, Piece, lines_of, literal, plain

FLASH_MS = 20  # cues this short are YouTube's, between a line and the next one
ROLLING_SHARE = 0.5  # of the cues that begin with lines of the cue before, from which on a file's lines roll
REPEAT_GAP_MS = 500  # a line that is shown again within this is the same one


def said_once(cues: Sequence[Cue], left_out: Counter) -> list[Cue]:
    """Cues without what was on screen before; words of a line that is shown again without a mark are counted."""
    if any(cue.is_timed for cue in cues):
        return without_rolled(cues)
    joined = join_marked(cues)
    if len(joined) < len(cues):
        return join_repeats(joined, left_out)
    return without_rolled(cues) if _rolls(cues) else join_repeats(cues, left_out)


@dataclass
class MarkedLine:
    """A line of which one word after the other is marked. spans: letters [from, to) and the ms of their mark."""

    cues: list[Cue]
    spans: list[list[int]] = field(default_factory=list)

    def add(self, cue: Cue, region: tuple[int, int] | None) -> bool:
        """Take a cue with its marked letters; False where the line is said from its beginning again."""
        if region is not None and self.spans:
            first, last = self.spans[0][0], self.spans[-1]
            start, stop = (last[1], region[1]) if region[0] == first < last[1] < region[1] else region
            if [start, stop] == last[:2]:
                last[3] = max(cue.end, last[3])
            elif start < last[1]:
                return False
            else:
                self.spans.append([start, stop, cue.start, cue.end])
        elif region is not None:
            self.spans.append([*region, cue.start, cue.end])
        self.cues.append(cue)
        return True

    def joined(self) -> list[Cue]:
        """One cue with word times; the cues as they are where no mark has moved."""
        if len(self.spans) < 2:
            return self.cues
        text = "\n".join(plain("".join(piece.text for piece in line.pieces)) for line in self.cues[0].lines)
        places = [at for at, letter in enumerate(text) if not letter.isspace()]
        start, end = self.cues[0].start, max(cue.end for cue in self.cues)
        pieces = [Piece(start, literal(text[: places[self.spans[0][0]]]))]
        followers = [*self.spans[1:], [len(places), 0, end, 0]]
        for (a, b, at, until), following in zip(self.spans, followers, strict=True):
            stop = places[following[0]] if following[0] < len(places) else len(text)
            # Words that were never marked share the time up to the next mark.
            until = until if b == following[0] else following[2]
            pieces.append(Piece(at, literal(text[places[a] : stop]), until))
        return [Cue(start, end, lines_of(pieces))]


def join_marked(cues: Iterable[Cue]) -> list[Cue]:
    """Cues of equal text in which another word is marked, as one with the times of the marks."""
    made: list[Cue] = []
    for _, run in groupby(cues, key=lambda cue: cue.shown):
        same = list(run)
        made += same if len(same) == 1 else _join_run(same)
    return made


def _join_run(cues: Sequence[Cue]) -> Iterator[Cue]:
    """Cues of equal text. The last word of the first is not marked: reading goes from the first word on."""
    letters = [_styles(cue) for cue in cues]
    base = letters[0][-1] if letters[0] else ()
    line = MarkedLine([])
    for cue, styles in zip(cues, letters, strict=True):
        marked = [place for place, style in enumerate(styles) if style != base]
        is_one = bool(marked) and marked[-1] - marked[0] + 1 == len(marked)
        region = (marked[0], marked[-1] + 1) if is_one else None
        if not line.add(cue, region):
            yield from line.joined()
            line = MarkedLine([])
            line.add(cue, region)
    yield from line.joined()


def _styles(cue: Cue) -> list[tuple[str, ...]]:
    """The tags that are open at each letter of a cue, spaces apart."""
    styles: list[tuple[str, ...]] = []
    for line in cue.lines:
        text, at, open_tags = "".join(piece.text for piece in line.pieces), 0, []
        for tag in TAG.finditer(text):
            styles += [tuple(open_tags)] * _n_letters(text[at : tag.start()])
            at = tag.end()
            if tag[0].startswith("</"):
                open_tags = open_tags[:-1]
            elif tag[0].startswith("<") and tag[0][1].isalpha():
                open_tags = [*open_tags, tag[0].lower()]
        styles += [tuple(open_tags)] * _n_letters(text[at:])
    return styles


def _n_letters(text: str) -> int:
    return len("".join(plain(text).split()))


def join_repeats(cues: Iterable[Cue], left_out: Counter) -> list[Cue]:
    """Cues of which one that shows the same again at once only lasts longer. A word in a cue of its own is said again:
    somebody shouts, or each word has its cue."""
    made: list[Cue] = []
    before: tuple[str, ...] = ()
    for cue in cues:
        shown, timed = cue.shown, cue.is_timed
        n_words = len(" ".join(shown).split())
        again = made and shown == before and not timed and not made[-1].is_timed
        if again and n_words > 1 and cue.start - made[-1].end <= REPEAT_GAP_MS:
            made[-1] = Cue(made[-1].start, max(made[-1].end, cue.end), made[-1].lines)
            left_out["repeated"] += n_words
        else:
            made.append(cue)
        before = shown
    return made


def time_words(cues: Sequence[Cue]) -> list[Cue]:
    """The cues of a file that has one for each word, as words with these times."""
    made = []
    for cue in cues:
        lines = [CaptionLine([Piece(cue.start, p.text, cue.end) for p in line.pieces]) for line in cue.lines]
        made.append(Cue(cue.start, cue.end, lines))
    return made


def without_rolled(cues: Iterable[Cue]) -> list[Cue]:
    """Cues without the lines that were on screen before: YouTube's roll up, a line standing in up to three cues.

    A line with times of words is always new. In a file without them lines roll only if half of its cues begin with
    what the cue before ends with, and some of them go on after it: a cue that says the same again may mean it.
    """
    kept: list[Cue] = []
    before: list[str] = []
    for cue in cues:
        shown = list(cue.shown)
        n_old = _n_rolled(before, shown)
        n_old = next((i for i, line in enumerate(cue.lines[:n_old]) if line.is_timed), n_old)
        grown = None if n_old else _grown(before, shown, cue)
        lines = cue.lines[n_old:] if grown is None else grown
        before = _filled(shown) or before
        if lines:
            kept.append(Cue(cue.start, cue.end, lines))
    return kept


def _rolls(cues: Sequence[Cue]) -> bool:
    n_rolled = n_going_on = 0
    texts = [_filled(cue.shown) for cue in cues]
    for cue, before, shown in zip(cues[1:], texts, texts[1:], strict=False):
        n_old = _n_rolled(before, shown)
        grows = not n_old and _starts_with(shown, before)
        n_rolled += bool(n_old or grows)
        is_flash = n_old > 0 and cue.end - cue.start <= FLASH_MS
        n_going_on += grows or is_flash or 0 < n_old < len(shown)
    return n_going_on > 0 and n_rolled >= ROLLING_SHARE * (len(cues) - 1)


def _n_rolled(before: Sequence[str], shown: Sequence[str]) -> int:
    """How many lines at the top of a cue are the last ones of the cue before. A blank line at the top is none of them:
    what stands below it has come after the screen was cleared."""
    most = min(len(before), len(shown))
    return next((n for n in range(most, 0, -1) if list(before[-n:]) == list(shown[:n])), 0)


def _filled(shown: Iterable[str]) -> list[str]:
    return [text for text in shown if text]


def _starts_with(shown: Sequence[str], before: Sequence[str]) -> bool:
    """Whether a cue says all that the one before said, and more: captions that are painted word by word."""
    old, new = " ".join(before).split(), " ".join(shown).split()
    return 0 < len(old) < len(new) and new[: len(old)] == old


def _grown(before: Sequence[str], shown: Sequence[str], cue: Cue) -> list[CaptionLine] | None:
    """The new words of a cue that was painted further; None where it was not."""
    if cue.is_timed:
        last = cue.lines[-1]
        # The segments of a live stream: the first cue of each begins with all that is on the screen.
        goes_on = len(shown) > 1 and list(before) == [*shown[:-1], CaptionLine(last.pieces[:1]).shown]
        return [CaptionLine(last.pieces[1:])] if goes_on and last.is_timed else None
    if not _starts_with(shown, before):
        return None
    return [CaptionLine([Piece(None, literal(" ".join(" ".join(shown).split()[len(" ".join(before).split()) :])))])]
