"""The words that are spoken in cues, without names of speakers, descriptions of sounds, songs and what was bleeped."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from data.production.words.cues import CaptionLine, Cue, plain
from data.production.words.songs import NOTES, song_spans
from data.production.words.speaker_names import SpeakerNames

# Thai to Khmer, kana and Chinese: scripts that part words by nothing.
NO_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
NO_WORD = re.compile(
    rf"[-\u2010-\u2015.,;:!?\u2026\"'`\u2018-\u201f*_~|/\\()\[\]{{}}<>=#\u200c\u200d\ufe0e\ufe0f{NOTES}]*"
)
BLEEPED = re.compile(r"\[\s*_+\s*\]")
SOUND = re.compile(
    r"[\[\uff3b\u3010][^\[\]\uff3b\uff3d\u3010\u3011]{0,120}[\]\uff3d\u3011]"
    r"|\A\s*\([^()]*\)\s*\Z|^[^\S\n]*\*(?=[^\W\d_])[^*\n]{1,80}(?<=\w)\*(?=\s|$)",
    re.MULTILINE,
)
BLANK = "\x1f"  # in place of each letter that is left out: white space to patterns, and in no text (cues.INVISIBLE)


class Token(NamedTuple):
    """A word, and the ms from which to which it is spoken, where they are known."""

    start: int | None
    end: int | None
    text: str


class ShownText:
    """The words of a cue as one text, their lines parted by line ends."""

    def __init__(self, lines: Iterable[CaptionLine]):
        by_line = [tokens for line in lines if (tokens := line_tokens(line))]
        self.tokens = [token for tokens in by_line for token in tokens]
        self.text = "\n".join([" ".join([token.text for token in tokens]) for tokens in by_line])

    def leave_out(self, spans: Iterable[tuple[int, int]]) -> int:
        """Blank parts of the text; the number of words in them."""
        before = self.text
        for start, stop in spans:
            hole = re.sub(r"\S", BLANK, self.text[start:stop])
            self.text = self.text[:start] + hole + self.text[stop:]
        if self.text == before:
            return 0
        parts = zip(self._cut(before), self._cut(self.text), strict=True)
        gone = ("".join(a for a, b in zip(old, new, strict=True) if a != b) for old, new in parts)
        return sum(map(_is_word, gone))

    def words(self) -> list[Token]:
        """What is left; a word that has lost its middle is two, with its time."""
        return [
            Token(token.start, token.end, part)
            for token, rest in zip(self.tokens, self._cut(self.text), strict=True)
            for part in rest.split()
            if _is_word(part)
        ]

    def _cut(self, text: str) -> list[str]:
        """The text at the places of its words."""
        parts, at = [], 0
        for token in self.tokens:
            parts.append(text[at : at + len(token.text)])
            at += len(token.text) + 1
        return parts


def spoken_words(cues: Sequence[Cue], left_out: Counter) -> list[list[Token]]:
    """The spoken words of each cue; the others are counted in left_out by kind."""
    shown = [ShownText(cue.lines) for cue in cues]
    names = SpeakerNames([text.text for text in shown])
    for text in shown:
        left_out["speaker"] += text.leave_out(names.spans(text.text))
        left_out["bleeped"] += len(BLEEPED.findall(text.text))
        text.leave_out([match.span() for match in BLEEPED.finditer(text.text)])
    for text, spans in zip(shown, song_spans([text.text for text in shown]), strict=True):
        left_out["sound"] += text.leave_out(spans)
        left_out["sound"] += text.leave_out([match.span() for match in SOUND.finditer(text.text)])
    return [text.words() for text in shown]


def line_tokens(line: CaptionLine) -> list[Token]:
    """The words of a line. A word that is cut into pieces (of two letters, in captions of live streams; of two
    colours, in written ones) is one, from the start of its first piece to the end of its last."""
    tokens: list[Token] = []
    is_open = False  # no space since the last word
    for at, marked, until in line.pieces:
        text = plain(marked)
        words = text.split()
        if words and is_open and not text[0].isspace() and not NO_SPACES.search(tokens[-1].text[-1] + words[0][0]):
            start, _, begun = tokens[-1]
            tokens[-1] = Token(start, until, begun + words.pop(0))
        tokens += [Token(at, until, word) for word in words]
        is_open = not text[-1].isspace() if text else is_open
    return tokens


def _is_word(text: str) -> bool:
    return not NO_WORD.fullmatch(text)
