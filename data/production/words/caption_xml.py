"""Captions in XML to cues: TTML and DFXP, and YouTube's srv1, srv2 and srv3.

pysubs2 reads one namespace of TTML, without frames, ticks and times of words.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from data.production.words.caption_formats import timed_lines
from data.production.words.caption_times import milliseconds
from data.production.words.cues import BadCaptions, Cue, Piece, lines_of, literal

OFFSET = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|f|t)")
FRAMES = re.compile(r"(\d+:\d+:\d+):(\d+)(?:\.\d+)?")
MS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def xml_cues(text: str, left_out: Counter) -> list[Cue]:
    """The cues of any of them."""
    if "<!ENTITY" in text:
        raise BadCaptions("malformed_captions", "it declares entities of its own, which no captions need")
    try:
        root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except ElementTree.ParseError as error:
        raise BadCaptions("malformed_captions", f"no XML: {error}") from None
    name = local(root.tag)
    if name == "tt":
        return TtmlReader.of(root, left_out).cues(root)
    if name in ("timedtext", "transcript"):
        return _youtube_cues(root, left_out)
    raise BadCaptions("malformed_captions", f"a file of <{name}>; TTML begins with <tt>, YouTube's with <timedtext>")


def local(name: str) -> str:
    """The name of an element or attribute without its namespace."""
    return name.rpartition("}")[2]


def _youtube_cues(root: ElementTree.Element, left_out: Counter) -> list[Cue]:
    """srv3: <p t d> with <s t>, in ms; srv2: <text t d>; srv1: <text start dur>, in seconds."""
    cues: list[Cue] = []
    for element in root.iter():
        if local(element.tag) not in ("p", "text"):
            continue
        try:
            start, length = _youtube_times(element)
        except ValueError:
            left_out["unreadable_cue"] += 1
            continue
        segments = [(0, element.text or "")]
        for child in element:
            segments += [
                (int(child.get("t", 0)), "".join(child.itertext())),
                (int(child.get("t", 0)), child.tail or ""),
            ]
        cues.append(Cue(start, start + length, timed_lines(start, segments)))
    return cues


def _youtube_times(element: ElementTree.Element) -> tuple[int, int]:
    if element.get("start") is not None:
        return round(1000 * float(element.get("start"))), round(1000 * float(element.get("dur", 0)))
    return int(element.get("t", "")), int(element.get("d", 0))


@dataclass
class TtmlReader:
    """The cues of a TTML document. frame_ms, tick_ms: what its frames and ticks last."""

    frame_ms: float
    tick_ms: float
    left_out: Counter

    @classmethod
    def of(cls, root: ElementTree.Element, left_out: Counter) -> "TtmlReader":
        """By the rates that the document states (TTML2, section 7.2)."""
        stated = {local(name): value for name, value in root.attrib.items()}
        try:
            times, per = map(float, stated.get("frameRateMultiplier", "1 1").replace(":", " ").split())
            frame_ms = 1000 / (float(stated.get("frameRate", 30)) * times / per)
            ticks = (
                float(stated["tickRate"]) if "tickRate" in stated else 1000 / frame_ms if "frameRate" in stated else 1
            )
            return cls(frame_ms, 1000 / ticks, left_out)
        except (ValueError, ZeroDivisionError) as error:
            raise BadCaptions("malformed_captions", f"TTML with rates that are none: {error}") from None

    def cues(self, root: ElementTree.Element) -> list[Cue]:
        """The paragraphs that have a time, or text in spans that have one."""
        return [cue for element in root if local(element.tag) == "body" for cue in self._cues(element, 0, None)]

    def _cues(self, element: ElementTree.Element, begun: int, ends: int | None) -> Iterator[Cue]:
        try:
            start, end = self._times(element, begun, ends)
        except ValueError:
            self.left_out["unreadable_cue"] += 1
            return
        if local(element.tag) != "p":
            for child in element:
                yield from self._cues(child, start, end)
            return
        pieces = list(self._pieces(element, None, None, start))
        starts = [piece.start for piece in pieces if piece.start is not None]
        stops = [piece.end for piece in pieces if piece.end is not None]
        begins = start if element.get("begin") is not None else min(starts, default=start)
        yield Cue(begins, max(stops, default=begins) if end is None else end, lines_of(pieces))

    def _pieces(self, element: ElementTree.Element, at: int | None, until: int | None, begun: int) -> Iterator[Piece]:
        # TTML's white space is collapsed: line ends are <br/>.
        yield Piece(at, _collapsed(element.text), until)
        for child in element:
            if local(child.tag) == "br":
                yield Piece(at, "\n", until)
            elif local(child.tag) == "span":
                start, end = self._times(child, begun, None)
                own = child.get("begin") is not None
                yield from self._pieces(child, start if own else at, end if own else until, start)
            yield Piece(at, _collapsed(child.tail), until)

    def _times(self, element: ElementTree.Element, begun: int, ends: int | None) -> tuple[int, int | None]:
        """When an element begins and ends, by its parent's times. Raises ValueError for a time that is none."""
        start, end, length = (element.get(name) and self._ms(element.get(name)) for name in ("begin", "end", "dur"))
        begins = begun + (start or 0)
        if end is not None:
            return begins, begun + end
        return begins, ends if length is None else begins + length

    def _ms(self, time: str) -> int:
        if offset := OFFSET.fullmatch(time.strip()):
            return round(float(offset[1]) * {**MS, "f": self.frame_ms, "t": self.tick_ms}[offset[2]])
        if frames := FRAMES.fullmatch(time.strip()):
            return milliseconds(frames[1]) + round(int(frames[2]) * self.frame_ms)
        found = milliseconds(time.strip())
        if found is None:
            raise ValueError(time)
        return found


def _collapsed(text: str | None) -> str:
    return literal(re.sub(r"\s+", " ", text or ""))
