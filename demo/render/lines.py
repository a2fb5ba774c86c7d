"""Lines and pages of a text, broken where people would break it, in any measure of width: arithmetic only.

A line breaks between words, and between the characters of a script that writes no spaces; a word that is wider than a
line breaks inside, never inside a grapheme cluster (a letter and its marks, a flag, a joined emoji, a syllable of
Korean letters). Not by wcwidth.wrap: it breaks at spaces only, measures in columns only and balances nothing.
"""

import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from wcwidth import iter_graphemes, wcwidth
from wcwidth import width as terminal_width

SENTENCE_ENDS = tuple(".!?…。！？؟।")
CLAUSE_ENDS = tuple(",;:،、，；：—–")
PENALTIES = (
    (SENTENCE_ENDS, 0.0),
    (CLAUSE_ENDS, 0.12),
)  # of a page that ends so, in shares of its length from the ideal
OTHER_PENALTY = 0.25

Width = Callable[[str], float]


class Atom(NamedTuple):
    """Text that no line break divides, and whether a space follows."""

    text: str
    space: bool


def columns(text: str) -> int:
    """Width in columns of a terminal: 2 for a wide character (Chinese, Japanese, Korean, emoji), 0 for a mark."""
    return terminal_width(text, control_codes="ignore")


def wrap(text: str, width: float, measure: Width = columns, balanced: bool = True) -> list[str]:
    """The lines of a text; none is wider than `width` unless a single character is.

    balanced: as few lines as possible, and those of about the same width.
    """
    atoms = _atoms(text, width, measure)
    lines = _fill(atoms, width, measure)
    if not balanced or len(lines) < 2:
        return lines
    low, high = width / len(lines) * 0.8, width
    while high - low > width / 50:  # the narrowest width that needs no line more
        middle = (low + high) / 2
        tried = _fill(atoms, middle, measure)
        fits = len(tried) <= len(lines) and all(measure(line) <= width for line in tried)
        low, high = (low, middle) if fits else (middle, high)
    return _fill(atoms, high, measure)


def pages(text: str, width: float, most_lines: int, measure: Width = columns) -> list[list[str]]:
    """A text as pages of at most `most_lines` lines, divided where a sentence or clause ends if one does nearby."""
    pages, waiting = [], [_atoms(text, width, measure)]
    while waiting:
        atoms = waiting.pop()
        lines = wrap(_join(atoms), width, measure)
        if len(lines) <= most_lines or len(atoms) < 2:
            pages.append(lines)
            continue
        cut = _cut(atoms, -(-len(lines) // most_lines), measure)
        waiting += [atoms[cut:], atoms[:cut]]
    return [page for page in pages if page]


def _cut(atoms: list[Atom], n_pages: int, measure: Width) -> int:
    """Where the first half of n_pages pages ends: near its share of the whole, and rather behind a full stop."""
    ends, total = [], 0.0
    for atom in atoms:
        total += measure(atom.text) + measure(" ") * atom.space
        ends.append(total)
    ideal = total * (n_pages // 2) / n_pages

    def cost(place: int) -> float:
        text = atoms[place - 1].text
        penalty = next((penalty for marks, penalty in PENALTIES if text.endswith(marks)), OTHER_PENALTY)
        return abs(ends[place - 1] - ideal) / total + penalty

    return min(range(1, len(atoms)), key=cost)


def _fill(atoms: list[Atom], width: float, measure: Width) -> list[str]:
    lines, line = [], []
    for atom in atoms:
        if line and measure(_join([*line, atom])) > width:
            lines.append(_join(line))
            line = []
        line.append(atom)
    return [*lines, _join(line)] if line else lines


def _join(atoms: list[Atom]) -> str:
    return "".join(atom.text + " " * atom.space for atom in atoms).rstrip(" ")


def _atoms(text: str, width: float, measure: Width) -> list[Atom]:
    atoms = []
    for word in text.split():
        parts = [piece for part in _breakable(word) for piece in _short(part, width, measure)]
        atoms += [Atom(part, False) for part in parts[:-1]] + [Atom(parts[-1], True)]
    return atoms


def _breakable(word: str) -> list[str]:
    """A word's parts between which a line may break: around wide characters, not before closing punctuation."""
    parts: list[str] = []
    for cluster in iter_graphemes(word):
        closing = unicodedata.category(cluster[0]) in ("Pe", "Pf", "Po", "Pd") or cluster[0] in "ーぁぃぅぇぉっゃゅょ"
        wide = wcwidth(cluster[0]) == 2
        opened = parts and unicodedata.category(parts[-1][-1]) in ("Ps", "Pi")
        if parts and (closing or opened or not (wide or wcwidth(parts[-1][0]) == 2)):
            parts[-1] += cluster
        else:
            parts.append(cluster)
    return parts


def _short(part: str, width: float, measure: Width) -> list[str]:
    """The part, cut into pieces where it is wider than a line."""
    if measure(part) <= width:
        return [part]
    pieces = [""]
    for cluster in iter_graphemes(part):
        if pieces[-1] and measure(pieces[-1] + cluster) > width:
            pieces.append("")
        pieces[-1] += cluster
    return pieces
