"""Caption files to words with times, or to captions with times where the file has no times of words.

    transcript = read_captions(Path("VIDEO.en.vtt"))

webvtt-py finds the cues of WebVTT, pysubs2 those of SubRip (its WebVTT takes a line with two times of words for a new
cue, and loses comments and identifiers in the text). What a cue's lines hold is read here, as neither does: times of
words (<00:00:01.200><c> word</c>), lines that roll through several cues, cues that overlap, marks of speakers,
descriptions of sounds, HTML entities. JSON3, YouTube's own, has no parser. Files come from anyone: each is read up to a
size, and one that cannot be used is a BadCaptions with its reason.
"""

import html
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pysubs2
import webvtt

from data.production.record import Timed

SUFFIXES = (".json3", ".vtt", ".srt")  # the best first: what YouTube knows, the same with rolled lines, no word times
MAX_BYTES = 32 << 20  # 10 hours of word-timed VTT have 6 MB
MAX_MS = 100 * 3_600_000  # later than 100 hours is a mistake
LONGEST_WORD_MS = 1000  # a word whose end is not known ends with the next one's start, or so long after its own
UNKNOWN_WORD_MS = 300  # of each word in a cue that ends before it starts
TOGETHER_MS = 50  # cues that start within this are one
SLACK_MS = 1000  # a word's time may lie so far outside of its cue
FLASH_MS = 20  # cues this short are YouTube's, between a line and the next one
ROLLING_SHARE = 0.5  # of the cues that begin with lines of the cue before, from which on a file's lines roll

TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
WORD_TIME = re.compile(f"<{TIME}>")
CLEARED = re.compile(r"(-->[^\n]*\n)\n(?!\n|(?:NOTE|STYLE|REGION|WEBVTT)\b|[^\n]*-->|[^\n]*\n[^\n]*-->)")
SEGMENT = re.compile(
    rf"^WEBVTT[^\n]*\nX-TIMESTAMP-MAP=(?=[^\n]*LOCAL:(?P<local>{TIME}))(?=[^\n]*MPEGTS:(?P<ticks>\d{{1,15}}))",
    re.MULTILINE,
)
TAG = re.compile(r"</?[A-Za-z][^<>]*>|\{\\[^{}]*\}")
INVISIBLE = re.compile(r"[\u0000-\u0008\u000e-\u001f\u007f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffd]")
# Thai to Khmer, kana and Chinese: scripts that part words by nothing.
NO_SPACES = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
NO_WORD = re.compile(r"[-\u2010-\u2015.,;:!?\u2026\"'`\u2018-\u201f*_~|/\\()\[\]{}<>=\u266a-\u266f]*")
LABEL = r"[A-Z][\w.'\u2019-]*(?: [A-Z][\w.'\u2019-]*){0,2}:(?=\s|$)"
SPEAKER = re.compile(rf"(?<!\S)>>+(?:\s*{LABEL})?")
LINE_SPEAKER = re.compile(
    rf"^\s*(?:[-\u2010-\u2015]+(?=\s|[^\W\d])(?:\s*{LABEL})?|[A-Z][A-Z.'\u2019 -]{{1,30}}:(?=\s.*[a-z]))"
)
BLEEPED = re.compile(r"\[\s*_+\s*\]")
SOUND = re.compile(
    r"[\[\uff3b\u3010][^\[\]\uff3b\uff3d\u3010\u3011]{0,120}[\]\uff3d\u3011]|[\u266a-\u266f][^\u266a-\u266f]*[\u266a-\u266f]"
    r"|^\s*\([^()]*\)\s*$"
)


class BadCaptions(Exception):
    """A caption file that cannot be used; `reason` is counted."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


@dataclass
class CaptionTranscript:
    """What is said: words, or captions where the file has no times of words.

    left_out: words of sounds ("[Music]"), names of speakers and what was bleeped ("[ __ ]"), and cues that could not be
    read, by kind. language: as the file says, else "".
    """

    words: list[Timed] = field(default_factory=list)
    captions: list[Timed] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    language: str = ""


@dataclass(slots=True)
class CaptionLine:
    """One line of a cue. pieces: (start in ms where it is known, text with its markup)."""

    pieces: list[tuple[int | None, str]]

    @property
    def is_timed(self) -> bool:
        """Whether words of it have their own times."""
        return any(start is not None for start, _ in self.pieces)

    @property
    def shown(self) -> str:
        """The text that a viewer sees."""
        return " ".join("".join([plain(text) for _, text in self.pieces]).split())


@dataclass(slots=True)
class Cue:
    """What is shown from one time to another, in ms."""

    start: int
    end: int
    lines: list[CaptionLine]


def read_captions(path: Path, encoding: str = "utf-8", max_bytes: int = MAX_BYTES) -> CaptionTranscript:
    """The transcript of a .vtt, .srt or .json3 file. Raises BadCaptions."""
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
    cues = {".vtt": _vtt_cues, ".srt": _srt_cues, ".json3": _json3_cues}[suffix](text, left_out)
    cues = sorted((cue for cue in cues if _is_in_time(cue, left_out)), key=lambda cue: cue.start)
    if not cues:
        raise BadCaptions("no_captions", "no cue in it; is it a caption file, and whole?")
    has_times = any(line.is_timed for cue in cues for line in cue.lines)
    if suffix != ".json3":
        cues = without_rolled(cues, has_times)
    transcript = CaptionTranscript(left_out=left_out, language=_language(text) if suffix == ".vtt" else "")
    if has_times:
        transcript.words = _words(cues, left_out)
    else:
        transcript.captions = _captions(cues, left_out)
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


def without_rolled(cues: Sequence[Cue], has_times: bool) -> list[Cue]:
    """Cues without the lines that were on screen before: YouTube's roll up, a line standing in up to three cues.

    A line with times of words is always new. In a file without them lines roll only if half of its cues begin with
    what the cue before ends with, and some of them go on after it: a cue that says the same again may mean it.
    """
    rolls = has_times or _rolls(cues)
    kept: list[Cue] = []
    before: list[str] = []
    for cue in cues:
        shown = [line.shown for line in cue.lines]
        n_old = _n_rolled(before, shown) if rolls else 0
        n_old = next((i for i, line in enumerate(cue.lines[:n_old]) if line.is_timed), n_old)
        grown = _grown(before, shown, cue) if rolls and not n_old else None
        lines = cue.lines[n_old:] if grown is None else grown
        before = _filled(shown) or before
        if lines:
            kept.append(Cue(cue.start, cue.end, lines))
    return kept


def plain(text: str) -> str:
    """A line without tags, with its entities read (some files escape them twice) and nothing invisible."""
    text = TAG.sub("", text)
    for _ in range(2):
        text = html.unescape(text) if "&" in text else text
    return INVISIBLE.sub("", text)


def _rolls(cues: Sequence[Cue]) -> bool:
    n_rolled = n_going_on = 0
    texts = [_filled([line.shown for line in cue.lines]) for cue in cues]
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
    if any(line.is_timed for line in cue.lines):
        last = cue.lines[-1]
        # The segments of a live stream: the first cue of each begins with all that is on the screen.
        goes_on = len(shown) > 1 and list(before) == [*shown[:-1], CaptionLine(last.pieces[:1]).shown]
        return [CaptionLine(last.pieces[1:])] if goes_on and last.is_timed else None
    if not _starts_with(shown, before):
        return None
    return [CaptionLine([(None, html.escape(" ".join(" ".join(shown).split()[len(" ".join(before).split()) :])))])]


def _words(cues: Sequence[Cue], left_out: Counter) -> list[Timed]:
    """Words with times: a word ends with the next one's start, or a second after its own."""
    runs: list[tuple[int, int, list[tuple[int | None, str]]]] = []  # start, end, tokens
    for cue in cues:
        tokens = _tokens(cue.lines, left_out)
        if tokens:
            runs.append((cue.start, cue.end, tokens))
    words, last = [], 0
    for i, (start, end, tokens) in enumerate(runs):
        following = runs[i + 1][2][0][0] or runs[i + 1][0] if i + 1 < len(runs) else MAX_MS
        end = max(min(end, following), start)
        for at, until, texts in _pieces(tokens, start, end):
            at = max(at, last)
            step = min(max(until - at, 0) / len(texts), LONGEST_WORD_MS)
            edges = [round(at + step * k) for k in range(len(texts) + 1)]
            words += [[a / 1000, b / 1000, text] for a, b, text in zip(edges, edges[1:], texts, strict=False)]
            last = edges[-1]
    return words


def _pieces(tokens: Sequence[tuple[int | None, str]], start: int, end: int) -> list[tuple[int, int, list[str]]]:
    """Words that share one time, with that time and the next one's."""
    pieces: list[tuple[int, list[str]]] = []
    for at, text in tokens:
        if pieces and (at is None or at == pieces[-1][0]):
            pieces[-1][1].append(text)
        else:
            pieces.append((start if at is None else at, [text]))
    ends = [*(at for at, _ in pieces[1:]), max(end, pieces[-1][0] + UNKNOWN_WORD_MS // 3)]
    return [(at, until, texts) for (at, texts), until in zip(pieces, ends, strict=True)]


def _captions(cues: Sequence[Cue], left_out: Counter) -> list[Timed]:
    """Captions with times that do not overlap; those that start together are one."""
    runs: list[list[Any]] = []  # start, end, words
    for cue in cues:
        texts = [text for _, text in _tokens(cue.lines, left_out)]
        if not texts:
            continue
        end = cue.end if cue.end > cue.start else cue.start + UNKNOWN_WORD_MS * len(texts)
        if runs and cue.start - runs[-1][0] < TOGETHER_MS:
            runs[-1][1:] = [max(end, runs[-1][1]), runs[-1][2] + texts]
        else:
            runs.append([cue.start, end, texts])
    ends = [min(run[1], after[0]) for run, after in pairwise(runs)] + [run[1] for run in runs[-1:]]
    return [[run[0] / 1000, end / 1000, " ".join(run[2])] for run, end in zip(runs, ends, strict=True)]


def _tokens(lines: Iterable[CaptionLine], left_out: Counter) -> list[tuple[int | None, str]]:
    """The words of a cue's lines with their times, without what is not speech."""
    found: list[tuple[int | None, str]] = []
    for line in lines:
        tokens = _blank(_line_tokens(line), LINE_SPEAKER, "speaker", left_out)
        found += _blank(tokens, SPEAKER, "speaker", left_out)
    found = _blank(found, BLEEPED, "bleeped", left_out)
    found = _blank(found, SOUND, "sound", left_out)
    return [token for token in found if not NO_WORD.fullmatch(token[1])]


def _line_tokens(line: CaptionLine) -> list[tuple[int | None, str]]:
    """The words of a line. A word that is cut into pieces (of two letters, in captions of live streams; of two
    colours, in written ones) is one, with the time of its first piece."""
    tokens: list[tuple[int | None, str]] = []
    is_open = False  # no space since the last word
    for at, marked in line.pieces:
        text = plain(marked)
        words = text.split()
        if words and is_open and not text[0].isspace() and not NO_SPACES.search(tokens[-1][1][-1] + words[0][0]):
            start, begun = tokens[-1]
            tokens[-1] = (start, begun + words.pop(0))
        tokens += [(at, word) for word in words]
        is_open = not text[-1].isspace() if text else is_open
    return tokens


def _blank(
    tokens: list[tuple[int | None, str]], pattern: re.Pattern, kind: str, left_out: Counter
) -> list[tuple[int | None, str]]:
    """The words without what a pattern finds in their text; what remains of a word keeps its time."""
    text = " ".join([word for _, word in tokens])
    if not pattern.search(text):
        return tokens
    blanked = pattern.sub(lambda match: "\0" * len(match[0]), text)
    left_out[kind] += len(pattern.findall(text)) if pattern is BLEEPED else 0
    kept, at = [], 0
    for start, word in tokens:
        rest = blanked[at : at + len(word)]
        at += len(word) + 1
        parts = [part for part in rest.split("\0") if part]
        if not parts and not NO_WORD.fullmatch(word):
            left_out[kind] += 1
        kept += [(start, part) for part in parts]
    return kept


def _vtt_cues(text: str, left_out: Counter) -> list[Cue]:
    # An editor that strips spaces at line ends makes the blank line that clears the screen end the cue.
    text = CLEARED.sub(r"\1 \n", text)
    cues = []
    for segment, shift in _vtt_segments(text):
        try:
            parsed = webvtt.from_string(segment)
        except (webvtt.errors.MalformedFileError, webvtt.errors.MalformedCaptionError, ValueError) as error:
            raise BadCaptions("malformed_captions", f"no WebVTT ({error}); it must begin with WEBVTT") from None
        for caption in parsed:
            start, end = _milliseconds(caption.start) + shift, _milliseconds(caption.end) + shift
            lines = caption.raw_text.split("\n")
            cues.append(Cue(start, end, [_vtt_line(line, start, end, shift) for line in lines]))
    left_out["unreadable_cue"] += max(0, len(re.findall(r"^.*-->", text, re.MULTILINE)) - len(cues))
    return cues


def _vtt_segments(text: str) -> list[tuple[str, int]]:
    """The segments of a live stream that were put into one file, with the ms that their times lack: each begins anew,
    and says when (RFC 8216, section 3.5). Any other file is one segment."""
    maps = list(SEGMENT.finditer(text))
    if len(maps) < 2:
        return [(text, 0)]
    edges = [0, *(found.start() for found in maps[1:]), len(text)]
    shifts = [int(found["ticks"]) // 90 - _ms_of(re.match(TIME, found["local"])) for found in maps]
    return [(text[a:b], shift - shifts[0]) for (a, b), shift in zip(pairwise(edges), shifts, strict=True)]


def _vtt_line(line: str, start: int, end: int, shift: int) -> CaptionLine:
    """A line cut at its times of words. Times outside of the cue say nothing: a downloader that moves the cues of a
    live stream leaves them as they were."""
    matches = list(WORD_TIME.finditer(line))
    if not matches:
        return CaptionLine([(None, line)])
    times = [_ms_of(match) + shift for match in matches]
    known = [start, *(time if start - SLACK_MS <= time <= end + SLACK_MS else None for time in times)]
    edges = [0, *(edge for match in matches for edge in match.span()), len(line)]
    return CaptionLine([(at, line[a:b]) for at, a, b in zip(known, edges[::2], edges[1::2], strict=True)])


def _srt_cues(text: str, left_out: Counter) -> list[Cue]:
    # A last caption that ends in a number would lose it to pysubs2, which takes it for the next one's.
    text += "\n\n0\n99:59:59,999 --> 99:59:59,999\n"
    try:
        events = pysubs2.SSAFile.from_string(text, "srt", keep_html_tags=True).events[:-1]
    except (ValueError, OverflowError, pysubs2.exceptions.Pysubs2Error) as error:
        raise BadCaptions("malformed_captions", f"no SubRip: {error}") from None
    left_out["unreadable_cue"] += max(0, len(re.findall(r"^.*-->", text, re.MULTILINE)) - 1 - len(events))
    return [Cue(e.start, e.end, [CaptionLine([(None, line)]) for line in e.text.split(r"\N")]) for e in events]


def _json3_cues(text: str, left_out: Counter) -> list[Cue]:
    try:
        events = orjson.loads(text)["events"]
        if not isinstance(events, list):
            raise TypeError
    except (ValueError, TypeError, KeyError) as error:
        raise BadCaptions("malformed_captions", f"no JSON3: an object with events is needed ({error})") from None
    cues = []
    for event in events:
        if not isinstance(event, dict) or "segs" not in event:
            continue  # windows and pens
        try:
            cues.append(_json3_cue(event))
        except (TypeError, KeyError, AttributeError, ValueError, OverflowError):
            left_out["unreadable_cue"] += 1
    return cues


def _json3_cue(event: dict[str, Any]) -> Cue:
    start, duration = int(event["tStartMs"]), int(event.get("dDurationMs", 0))
    segments = [(int(segment.get("tOffsetMs", 0)), segment["utf8"]) for segment in event["segs"]]
    if not all(isinstance(text, str) for _, text in segments):
        raise TypeError
    has_times = any(offset for offset, _ in segments)
    lines: list[CaptionLine] = [CaptionLine([])]
    for offset, text in segments:
        first, *others = text.split("\n")
        at = start + offset if has_times else None
        # What is set anew is text, and must not be read as markup.
        lines[-1].pieces.append((at, html.escape(first, quote=False)))
        lines += [CaptionLine([(at, html.escape(other, quote=False))]) for other in others]
    return Cue(start, start + duration, lines)


def _is_in_time(cue: Cue, left_out: Counter) -> bool:
    good = 0 <= cue.start <= MAX_MS and cue.end <= 2 * MAX_MS
    left_out["unreadable_cue"] += not good
    return good


def _milliseconds(time: str) -> int:
    match = re.fullmatch(TIME, time)
    return _ms_of(match) if match else MAX_MS + 1


def _ms_of(match: re.Match) -> int:
    hours, minutes, seconds, fraction = match.groups()
    return ((int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(fraction.ljust(3, "0"))


def _language(text: str) -> str:
    match = re.search(r"^Language:\s*([A-Za-z]{2,3}(?:-\w{1,8})*)\s*$", text[:1000], re.MULTILINE)
    return match[1] if match else ""
