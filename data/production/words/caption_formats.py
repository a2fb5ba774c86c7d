"""Each format of captions to cues: WebVTT, SubRip, SubViewer, SubStation, JSON3, whisper's JSON.

webvtt-py finds the cues of WebVTT, pysubs2 the events of SubStation. SubRip is read here: pysubs2 takes a number that
ends a caption for the next one's, and an hour 100 for 0; neither reads the forms of times that caption_times does.
JSON3, YouTube's own, and whisper's JSON have no parser.
"""

import re
from bisect import bisect_right
from collections import Counter
from itertools import pairwise
from typing import Any

import orjson
import pysubs2
import webvtt

from data.production.words.caption_times import BROKEN_TIMING, TIME, TIMING, as_webvtt, milliseconds
from data.production.words.cues import BadCaptions, CaptionLine, Cue, Piece, lines_of, literal

SLACK_MS = 1000  # a word's time may lie so far outside of its cue
UNREADABLE_MS = -1

WORD_TIME = re.compile(f"<({TIME})>")
CLEARED = re.compile(r"(-->[^\n]*\n)\n(?!\n|(?:NOTE|STYLE|REGION|WEBVTT)\b|[^\n]*-->|[^\n]*\n[^\n]*-->)")
SEGMENT = re.compile(
    rf"^WEBVTT[^\n]*\nX-TIMESTAMP-MAP=(?=[^\n]*LOCAL:(?P<local>{TIME}))(?=[^\n]*MPEGTS:(?P<ticks>\d{{1,15}}))",
    re.MULTILINE,
)
SUBVIEWER_TIMING = re.compile(rf"^({TIME}),({TIME})[ \t]*$", re.MULTILINE)
OVERRIDE = re.compile(r"\{([^{}]*)\}")
STYLE = re.compile(r"\\(r|[bius](?![a-z])|[1-4]?c(?![a-z]))([^\\]*)")
KARAOKE = re.compile(r"\\[kK][fo]?(\d+)")


def vtt_cues(text: str, left_out: Counter) -> list[Cue]:
    """The cues of WebVTT."""
    # An editor that strips spaces at line ends makes the blank line that clears the screen end the cue.
    text = CLEARED.sub(r"\1 \n", as_webvtt(text))
    cues = []
    for segment, shift in _vtt_segments(text):
        try:
            parsed = webvtt.from_string(segment)
        except (webvtt.errors.MalformedFileError, webvtt.errors.MalformedCaptionError, ValueError) as error:
            raise BadCaptions("malformed_captions", f"no WebVTT ({error}); it must begin with WEBVTT") from None
        for caption in parsed:
            start, end = milliseconds(caption.start) + shift, milliseconds(caption.end) + shift
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
    shifts = [int(found["ticks"]) // 90 - (milliseconds(found["local"]) or 0) for found in maps]
    return [(text[a:b], shift - shifts[0]) for (a, b), shift in zip(pairwise(edges), shifts, strict=True)]


def _vtt_line(line: str, start: int, end: int, shift: int) -> CaptionLine:
    """A line cut at its times of words. Times outside of the cue say nothing: a downloader that moves the cues of a
    live stream leaves them as they were."""
    matches = list(WORD_TIME.finditer(line))
    if not matches:
        return CaptionLine([Piece(None, line)])
    times = [(milliseconds(match[1]) or UNREADABLE_MS) + shift for match in matches]
    known = [start, *(time if start - SLACK_MS <= time <= end + SLACK_MS else None for time in times)]
    edges = [0, *(edge for match in matches for edge in match.span()), len(line)]
    return CaptionLine([Piece(at, line[a:b]) for at, a, b in zip(known, edges[::2], edges[1::2], strict=True)])


def srt_cues(text: str, left_out: Counter) -> list[Cue]:
    """The cues of SubRip: what stands between two lines of times, without the number of the next cue."""
    timings = list(TIMING.finditer(text))
    broken = [match for match in BROKEN_TIMING.finditer(text) if not TIMING.match(match[0])]
    edges = sorted([*(match.start() for match in (*timings, *broken)), len(text)])
    is_numbered = bool(timings) and text[: edges[0]].strip().isdigit()
    cues = []
    for match in timings:
        start, end = milliseconds(match["start"]), milliseconds(match["end"])
        stop = edges[bisect_right(edges, match.start())]
        lines = text[match.end() : stop].split("\n")[1:]
        while lines and not lines[-1].strip():
            lines.pop()
        if is_numbered and stop < len(text) and lines and lines[-1].strip().isdigit():
            lines.pop()
        if start is None or end is None:
            broken.append(match)
        else:
            cues.append(Cue(start, end, [CaptionLine([Piece(None, line)]) for line in lines if line.strip()]))
    left_out["unreadable_cue"] += len(broken)
    return cues


def sbv_cues(text: str, left_out: Counter) -> list[Cue]:
    """The cues of SubViewer as YouTube writes it: SubRip with a comma for the arrow, unnumbered."""
    return srt_cues(SUBVIEWER_TIMING.sub(r"\1 --> \2", text), left_out)


def ass_cues(text: str, left_out: Counter) -> list[Cue]:
    """The dialogue of SubStation, its styles as classes, with the times of words where it has karaoke."""
    try:
        events = pysubs2.SSAFile.from_string(text, "ass").events
    except (ValueError, OverflowError, pysubs2.exceptions.Pysubs2Error) as error:
        raise BadCaptions("malformed_captions", f"no SubStation: {error}") from None
    left_out["unreadable_cue"] += max(0, len(re.findall(r"^Dialogue:", text, re.MULTILINE)) - len(events))
    spoken = [event for event in events if not event.is_comment and not event.is_drawing]
    return [Cue(e.start, e.end, lines_of(_ass_pieces(e.start, e.end, e.text))) for e in spoken]


def _ass_pieces(start: int, end: int, text: str) -> list[Piece]:
    pieces: list[Piece] = []
    style: dict[str, str] = {}
    at, begins = None, start
    for i, part in enumerate(OVERRIDE.split(text)):
        if i % 2 == 0:
            shown = literal(re.sub(r"\\[nh]", " ", part.replace(r"\N", "\n")))
            opened = "".join(f"{kind}{re.sub(r'[^0-9A-Za-z]', '', value)}" for kind, value in sorted(style.items()))
            pieces.append(Piece(at, f"<c.{opened}>{shown}</c>" if opened and "\n" not in shown else shown))
            continue
        for kind, value in STYLE.findall(part):
            style = {} if kind == "r" else {**style, kind.removeprefix("1"): value}
            style = {k: v for k, v in style.items() if v.strip("0 ")}
        for hundredths in KARAOKE.findall(part):
            at, begins = begins, begins + 10 * int(hundredths)
    known = [piece._replace(end=min(begins, end)) if piece.start is not None else piece for piece in pieces]
    return [
        piece if following.start in (None, piece.start) else piece._replace(end=following.start)
        for piece, following in pairwise([*known, Piece(None, "")])
    ]


def json3_cues(text: str, left_out: Counter) -> list[Cue]:
    """The cues of YouTube's JSON3."""
    cues = []
    for event in _list_in(text, "events", "JSON3"):
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
    return Cue(start, start + duration, timed_lines(start, segments))


def timed_lines(start: int, segments: list[tuple[int, str]]) -> list[CaptionLine]:
    """Segments of a cue, with the ms of each behind the cue's start, as its lines."""
    has_times = any(offset for offset, _ in segments)
    # What is set anew is text, and must not be read as markup.
    return lines_of(Piece(start + offset if has_times else None, literal(text)) for offset, text in segments)


def whisper_cues(text: str, left_out: Counter) -> list[Cue]:
    """The segments of whisper's JSON, and of whisperX's, with the times of their words where they have them."""
    cues = []
    for segment in _list_in(text, "segments", "transcript of whisper's"):
        try:
            cues.append(_whisper_cue(segment))
        except (TypeError, KeyError, AttributeError, ValueError, OverflowError):
            left_out["unreadable_cue"] += 1
    return cues


def _whisper_cue(segment: dict[str, Any]) -> Cue:
    start, end = (round(1000 * segment[side]) for side in ("start", "end"))
    words = segment.get("words") or []
    if not words:
        return Cue(start, end, lines_of([Piece(None, literal(segment["text"]))]))
    texts = [word["word"] if "word" in word else word["text"] for word in words]
    # whisperX parts its words by nothing where the language does not, whisper's have their spaces.
    gap = "" if any(text[:1].isspace() for text in texts) or " " not in segment.get("text", " ").strip() else " "
    pieces = []
    for word, said in zip(words, texts, strict=True):
        at, until = (None if word.get(side) is None else round(1000 * word[side]) for side in ("start", "end"))
        pieces.append(Piece(at, literal(said + gap), until))
    return Cue(start, end, [CaptionLine(pieces)])


def _list_in(text: str, key: str, what: str) -> list:
    try:
        found = orjson.loads(text)[key]
        if not isinstance(found, list):
            raise TypeError
    except (ValueError, TypeError, KeyError) as error:
        raise BadCaptions("malformed_captions", f"no {what}: an object with {key} is needed ({error})") from None
    return found
