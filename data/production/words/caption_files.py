"""Caption files to words with times, or to captions with times where the file has no times of words.

    transcript = read_captions(Path("VIDEO.en.vtt"))

caption_formats.py and caption_xml.py find the cues of each format; what their lines hold is read here for all of them:
lines that are shown again (repeated_cues.py), names of speakers, songs and descriptions of sounds (spoken_words.py),
cues that overlap. Files come from anyone: each is read up to a size, and one that cannot be used is a BadCaptions with
its reason.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from data.production.record import Timed
from data.production.words.caption_formats import ass_cues, json3_cues, sbv_cues, srt_cues, vtt_cues, whisper_cues
from data.production.words.caption_xml import xml_cues
from data.production.words.cues import BadCaptions, Cue
from data.production.words.repeated_cues import said_once, time_words
from data.production.words.spoken_words import NO_SPACES, Token, spoken_words

# The best first: what YouTube knows of words, what speech recognition does, rolled lines, lines alone.
READERS: dict[str, Callable[[str, Counter], list[Cue]]] = {
    ".json3": json3_cues, ".srv3": xml_cues, ".json": whisper_cues, ".vtt": vtt_cues, ".ttml": xml_cues,
    ".dfxp": xml_cues, ".tt": xml_cues, ".ass": ass_cues, ".ssa": ass_cues, ".srt": srt_cues, ".sbv": sbv_cues,
    ".srv2": xml_cues, ".srv1": xml_cues,
}  # fmt: skip
SUFFIXES = tuple(READERS)
# Files of captions that are not read; FFmpeg makes SubRip of most.
UNREAD_SUFFIXES = (".lrc", ".smi", ".sami", ".sub", ".idx", ".sup", ".scc", ".stl", ".usf")
ONCE_FORMATS = (".json3", ".srv3", ".json")  # what they say again is said again
MAX_BYTES = 32 << 20  # 10 hours of word-timed VTT have 6 MB
MAX_MS = 100 * 3_600_000  # later than 100 hours is a mistake
LONGEST_WORD_MS = 1000  # a word whose end is not known ends with the next one's start, or so long after its own
UNKNOWN_WORD_MS = 300  # of each word in a cue that ends before it starts
TOGETHER_MS = 50  # cues that start within this are one
ONE_WORD_SHARE = 0.9  # of cues that have one word, from which on a file has a cue for each word
LEAST_WORD_CUES = 5  # fewer say nothing of that


@dataclass
class CaptionTranscript:
    """What is said: words, or captions where the file has no times of words.

    left_out: words of sounds ("[Music]"), names of speakers, lines that are shown again and what was bleeped
    ("[ __ ]"), and cues that could not be read, by kind. language: as the file says, else "".
    """

    words: list[Timed] = field(default_factory=list)
    captions: list[Timed] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    language: str = ""


def read_captions(path: Path, encoding: str = "utf-8", max_bytes: int = MAX_BYTES) -> CaptionTranscript:
    """The transcript of a file with one of SUFFIXES. Raises BadCaptions."""
    if not path.is_file():
        raise BadCaptions("unreadable_captions", f"{path}: no such file")
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise BadCaptions("unreadable_captions", f"{path}: cannot be read ({error.strerror})") from None
    if len(data) > max_bytes:
        raise BadCaptions("captions_too_large", f"{path}: over {max_bytes} bytes; no captions are that long")
    try:
        return parse_captions(data, path.suffix.lower(), encoding)
    except BadCaptions as fault:
        raise BadCaptions(fault.reason, f"{path}: {fault}") from None


def parse_captions(data: bytes, suffix: str, encoding: str = "utf-8") -> CaptionTranscript:
    """The transcript of a caption file's content. Raises BadCaptions."""
    left_out: Counter[str] = Counter()
    text = decode(data, encoding)
    cues = READERS[_kind(suffix, text)](text, left_out)
    cues = sorted((cue for cue in cues if _is_in_time(cue, left_out)), key=lambda cue: cue.start)
    if not cues:
        raise BadCaptions("no_captions", "no cue in it; is it a caption file, and whole?")
    if suffix not in ONCE_FORMATS:
        cues = said_once(cues, left_out)
    if not any(cue.is_timed for cue in cues) and _is_a_word_each(cues):
        cues = time_words(cues)
    said = spoken_words(cues, left_out)
    transcript = CaptionTranscript(language=_language(text))
    if any(cue.is_timed for cue in cues):
        transcript.words = _words(cues, said)
    else:
        transcript.captions = _captions(cues, said)
    transcript.left_out = {kind: n for kind, n in sorted(left_out.items()) if n}
    return transcript


def decode(data: bytes, encoding: str = "utf-8") -> str:
    """Text by its byte order mark, else in `encoding`. Raises BadCaptions."""
    marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    known = next((codec for mark, codec in marks.items() if data.startswith(mark)), encoding)
    try:
        text = data.decode(known)
    except UnicodeDecodeError as error:
        line_no = data.count(b"\n", 0, error.start) + 1
        raise BadCaptions(
            "bad_encoding", f"line {line_no} is not {known}; name its encoding, such as caption_encoding: cp1252"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _kind(suffix: str, text: str) -> str:
    """The format of a file, which is WebVTT under SubRip's name where it says so."""
    return ".vtt" if suffix == ".srt" and text.lstrip().startswith("WEBVTT") else suffix


def _is_a_word_each(cues: Sequence[Cue]) -> bool:
    """Whether a file has a cue for each word: its times are those of words, and what is said again is said again."""
    texts = [" ".join(cue.shown).split() for cue in cues]
    n_one = sum(len(words) == 1 and not NO_SPACES.search(words[0]) for words in texts)
    return n_one >= max(LEAST_WORD_CUES, ONE_WORD_SHARE * sum(map(bool, texts)))


def _words(cues: Sequence[Cue], said: Sequence[Sequence[Token]]) -> list[Timed]:
    """Words with times: one whose end is not known ends with the next one's start, or a second after its own."""
    runs = [(cue.start, cue.end, tokens) for cue, tokens in zip(cues, said, strict=True) if tokens]
    words, last = [], 0
    for i, (start, end, tokens) in enumerate(runs):
        following = runs[i + 1][2][0].start or runs[i + 1][0] if i + 1 < len(runs) else MAX_MS
        end = max(min(end, following), start)
        for at, until, is_known, texts in _pieces(tokens, start, end):
            at = max(at, last)
            step = max(min(until, following) - at, 0) / len(texts)
            step = step if is_known else min(step, LONGEST_WORD_MS)
            edges = [round(at + step * k) for k in range(len(texts) + 1)]
            words += [[a / 1000, b / 1000, text] for a, b, text in zip(edges, edges[1:], texts, strict=False)]
            last = edges[-1]
    return words


def _pieces(tokens: Sequence[Token], start: int, end: int) -> list[tuple[int, int, bool, list[str]]]:
    """Words that share one time: from when to when, and whether it is known to when."""
    pieces: list[list[Any]] = []  # start, end, texts
    for at, until, text in tokens:
        if pieces and (at is None or at == pieces[-1][0]):
            pieces[-1][2].append(text)
            pieces[-1][1] = until
        else:
            pieces.append([start if at is None else at, until, [text]])
    nexts = [*(piece[0] for piece in pieces[1:]), max(end, pieces[-1][0] + UNKNOWN_WORD_MS // 3)]
    return [
        (at, following if until is None else min(until, following), until is not None, texts)
        for (at, until, texts), following in zip(pieces, nexts, strict=True)
    ]


def _captions(cues: Sequence[Cue], said: Sequence[Sequence[Token]]) -> list[Timed]:
    """Captions with times that do not overlap; those that start together are one."""
    runs: list[list[Any]] = []  # start, end, words
    for cue, tokens in zip(cues, said, strict=True):
        texts = [token.text for token in tokens]
        if not texts:
            continue
        end = cue.end if cue.end > cue.start else cue.start + UNKNOWN_WORD_MS * len(texts)
        if runs and cue.start - runs[-1][0] < TOGETHER_MS:
            runs[-1][1:] = [max(end, runs[-1][1]), runs[-1][2] + texts]
        else:
            runs.append([cue.start, end, texts])
    ends = [min(run[1], after[0]) for run, after in pairwise(runs)] + [run[1] for run in runs[-1:]]
    return [[run[0] / 1000, end / 1000, " ".join(run[2])] for run, end in zip(runs, ends, strict=True)]


def _is_in_time(cue: Cue, left_out: Counter) -> bool:
    good = 0 <= cue.start <= MAX_MS and cue.end <= 2 * MAX_MS
    left_out["unreadable_cue"] += not good
    return good


def _language(text: str) -> str:
    """What a WebVTT, TTML or whisper file says of its language near its beginning or its end."""
    says = r"^Language:\s*{0}\s*$|\bxml:lang=\"{0}\"|\"language\":\s*\"{0}\""
    code = r"([A-Za-z]{2,3}(?:-\w{1,8})*)"
    match = re.search(says.format(code), text[:1000] + "\n" + text[-1000:], re.MULTILINE)
    return next(filter(None, match.groups()), "") if match else ""
