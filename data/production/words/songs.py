"""Songs in captions: between notes, or between # that stand at the ends of a line, within a cue or over several."""

import re
from collections.abc import Sequence

NOTES = "\u2669-\u266f\U0001f3b5\U0001f3b6"
NOTE = re.compile(f"[{NOTES}](?:[{NOTES} ]*[{NOTES}])?")
HASH_OPENS = re.compile(r"\s*#+\s+[^\W\d_]")
HASH_CLOSES = re.compile(r"\S\s*#+\s*$")
HASH_AT_EDGE = re.compile(r"^[^\S\n]*#+(?=\s)|(?<=\S)[^\S\n]*#+[^\S\n]*$", re.MULTILINE)
IN_ONE_CUE = re.compile(r"\s*#+\s*[^\W\d_][^#]*#+\s*")
MAX_CUES = 60  # of one song, from the note that opens it to the one that closes it


def song_spans(texts: Sequence[str]) -> list[list[tuple[int, int]]]:
    """Where there is song in the texts of a file's cues, whose lines line ends part.

    A note opens a song, and the next one closes it; at the start of a line it opens one, at the end of a line it closes
    one. A song that is not closed in its cue goes on to the cue in which the next note has words before it; where that
    note begins a line, the song ended with its own cue.
    """
    texts = _hashes_as_notes(texts)
    spans: list[list[tuple[int, int]]] = [[] for _ in texts]
    if not any(NOTE.search(text) for text in texts):
        return spans
    open_from: int | None = None  # the cue of a song that is open
    for i, text in enumerate(texts):
        notes = list(NOTE.finditer(text))
        if not notes:
            continue
        is_open = _closes(text, notes[0]) and open_from is not None and i - open_from <= MAX_CUES
        if is_open:
            for between in range(open_from + 1, i):
                spans[between] = [(0, len(texts[between]))]
        spans[i], stays_open = _in_cue(text, notes, is_open)
        open_from = i if stays_open else None
    return spans


def _in_cue(text: str, notes: Sequence[re.Match], is_open: bool) -> tuple[list[tuple[int, int]], bool]:
    """The songs of one cue, and whether the last of them is open."""
    spans: list[tuple[int, int]] = []
    start = 0 if is_open else None
    for note in notes:
        opens, closes = not _before(text, note), _closes(text, note) and not _behind(text, note)
        if start is not None and not opens:
            spans.append((start, note.end()))
            start = None
        elif start is None and closes:
            spans.append((text.rfind("\n", 0, note.start()) + 1, note.end()))
        elif start is None and (not opens or _behind(text, note)):
            start = note.start()
    if start is not None:
        spans.append((start, len(text)))
    return spans, start is not None


def _before(text: str, note: re.Match) -> str:
    """What stands before a note in its line."""
    return text[text.rfind("\n", 0, note.start()) + 1 : note.start()].strip()


def _behind(text: str, note: re.Match) -> str:
    return text[note.end() :].partition("\n")[0].strip()


def _closes(text: str, note: re.Match) -> bool:
    return bool(_before(text, note))


def _hashes_as_notes(texts: Sequence[str]) -> list[str]:
    """The texts with a note for each # that opens or closes a song: "# we are the champions #", in one cue or several.
    A # that no other closes is none: "# 10 shoots", "#goal"."""
    found, opened = list(texts), None
    for i, text in enumerate(texts):
        if "#" not in text:
            continue
        if IN_ONE_CUE.fullmatch(text):
            found[i] = re.sub("#", "\u266a", text)
            continue
        if opened is None or i - opened > MAX_CUES:
            opened = i if HASH_OPENS.match(text) else None
        if opened is not None and HASH_CLOSES.search(text):
            for k in range(opened, i + 1):
                found[k] = HASH_AT_EDGE.sub(lambda match: match[0].replace("#", "\u266a"), texts[k])
            opened = None
    return found
