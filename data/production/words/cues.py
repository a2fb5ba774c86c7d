"""Cues of caption files: what is shown from one time to another, with its markup, and the text that is left of it.

Only tags that captions have are markup: b, i, u, s, font, span, WebVTT's classes, voices and times, and SubStation's
{\\...}; any other angle bracket is speech ("if x<y and z>w then"). Invisible characters go, but for the joiners by
which Persian, Sinhala and emoji are written.
"""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from data.production.words.caption_times import TIME

BARE = "[bius]|c|em|strong|strike|big|small|ruby|rt|font|span|p|div|v|lang"
TAG = re.compile(
    rf"</?(?:{BARE})(?:\.[\w.:#%-]+)?\s*/?>"
    r"|<(?:font|span|p|div|[bcius])\s[^<>]*=[^<>]*>"
    r"|(?<!\w)<(?:v|lang)(?:\.[\w.-]+)?[ \t][^<>]*>"
    rf"|<{TIME}>|\{{\\[^{{}}]*\}}",
    re.IGNORECASE,
)
BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
INVISIBLE = re.compile(
    r"[\u0000-\u0008\u000e-\u001f\u007f\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ufffd]"
)


class BadCaptions(Exception):
    """A caption file that cannot be used; `reason` is counted."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


class Piece(NamedTuple):
    """Text with its markup, and the ms from which to which it is spoken, where they are known."""

    start: int | None
    text: str
    end: int | None = None


@dataclass(slots=True)
class CaptionLine:
    """One line of a cue."""

    pieces: list[Piece]

    @property
    def is_timed(self) -> bool:
        """Whether words of it have their own times."""
        return any(piece.start is not None for piece in self.pieces)

    @property
    def shown(self) -> str:
        """The text that a viewer sees."""
        return " ".join("".join([plain(piece.text) for piece in self.pieces]).split())


@dataclass
class Cue:
    """What is shown from one time to another, in ms."""

    start: int
    end: int
    lines: list[CaptionLine]

    @property
    def is_timed(self) -> bool:
        """Whether words of it have their own times."""
        return any(line.is_timed for line in self.lines)

    @cached_property
    def shown(self) -> tuple[str, ...]:
        """The lines that a viewer sees."""
        return tuple(line.shown for line in self.lines)


def plain(text: str) -> str:
    """A line without tags, with its entities read (some files escape them twice) and nothing invisible."""
    if "<" in text or "{" in text:
        text = TAG.sub("", BREAK.sub(" ", text))
    for _ in range(2):
        text = html.unescape(text) if "&" in text else text
    return INVISIBLE.sub("", text)


def literal(text: str) -> str:
    """Text that is not markup, as markup."""
    return html.escape(text, quote=False)


def lines_of(pieces: Iterable[Piece]) -> list[CaptionLine]:
    """Pieces of a cue as its lines, cut where they have line ends."""
    lines = [CaptionLine([])]
    for start, text, end in pieces:
        first, *others = text.split("\n")
        lines[-1].pieces.append(Piece(start, first, end))
        lines += [CaptionLine([Piece(start, other, end)]) for other in others]
    return lines
