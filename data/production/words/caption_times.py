"""Times of captions as people write them, in ms: hours or the fraction missing, a comma for a point, up to nine digits.

00:00:01.200   00:00:01,200   1:02:03   0:0:3,5   01:02.345678   00:00:01:250   12.5
"""

import re

TIME = r"\d{1,5}(?::\d{1,3}){1,3}(?:[.,]\d{1,9})?"
SECONDS = r"\d{1,6}[.,]\d{1,9}"
# A line that says from when to when; other lines may have an arrow in their text.
TIMING = re.compile(
    rf"^[ \t]*(?P<start>{TIME}|{SECONDS})[ \t]*-{{1,3}}[ \t]?>[ \t]*(?P<end>{TIME}|{SECONDS})(?=[ \t]|$)", re.MULTILINE
)
BROKEN_TIMING = re.compile(r"^[ \t]*[-\d]\S*:\S*[ \t]*-->.*$", re.MULTILINE)


def milliseconds(time: str) -> int | None:
    """A time in ms; None where it is none, such as one that counts frames."""
    whole, _, fraction = time.replace(",", ".").partition(".")
    parts = whole.split(":")
    if len(parts) == 4:
        if fraction or len(parts[3]) != 3:
            return None
        fraction = parts.pop()
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + int(part)
    return seconds * 1000 + round(int(fraction.ljust(9, "0")) / 1e6)


def as_webvtt(text: str) -> str:
    """A file's text with the times of its cues as WebVTT has them."""

    def timing(match: re.Match) -> str:
        start, end = milliseconds(match["start"]), milliseconds(match["end"])
        return match[0] if start is None or end is None else f"{_clock(start)} --> {_clock(end)}"

    return TIMING.sub(timing, text)


def _clock(ms: int) -> str:
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"
