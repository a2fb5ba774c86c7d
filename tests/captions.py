"""Caption files of every kind, as their makers write them, for tests."""

import html
import json

# What YouTube writes for automatic captions: each line rolls through three cues, its words timed in the one where it is
# new; &gt;&gt; for speakers, sounds in brackets, [&nbsp;__&nbsp;] for what is bleeped, a word without tags if alone.
ROLLED_VTT = """WEBVTT
Kind: captions
Language: en

00:00:00.160 --> 00:00:02.389 align:start position:0%
~
&gt;&gt; and<00:00:00.480><c> here</c><00:00:01.000><c> they</c><00:00:01.500><c> come</c>

00:00:02.389 --> 00:00:02.399 align:start position:0%
&gt;&gt; and here they come
~

00:00:02.399 --> 00:00:04.000 align:start position:0%
&gt;&gt; and here they come
no

00:00:04.000 --> 00:00:04.010 align:start position:0%
no
~

00:00:04.010 --> 00:00:06.010 align:start position:0%
no
no

00:00:06.010 --> 00:00:06.020 align:start position:0%
no
~

00:00:06.020 --> 00:00:09.000 align:start position:0%
no
[Music]<00:00:06.300> what<00:00:06.500><c> a</c><00:00:06.600><c> [&nbsp;__&nbsp;]</c><00:00:06.900><c> R&amp;B</c>

00:00:30.000 --> 00:00:32.000 align:start position:0%
~
R&amp;B<00:00:30.500><c> goal</c>
""".replace("~", " ")
ROLLED_WORDS = "and here they come no no what a R&B R&B goal"

# Two segments of a live stream in one file: two letters at a time, times that begin anew, and the screen said again.
LIVE_VTT = """WEBVTT
X-TIMESTAMP-MAP=LOCAL:00:00.000,MPEGTS:900000
Kind: captions

00:00:00.000 --> 00:00:02.000 align:start position:0%
the reds
be<00:00:00.400><c>gi</c><00:00:00.433><c>n </c><00:00:00.466><c>it</c><00:00:01.300><c>.</c>

00:00:02.000 --> 00:00:05.000 align:start position:0%
the reds
begin it.
no<00:00:04.600><c>w </c><00:00:04.633><c>a</c>

WEBVTT
X-TIMESTAMP-MAP=LOCAL:00:00.000,MPEGTS:1350000
Kind: captions

00:00:00.000 --> 00:00:01.500 align:start position:0%
the reds
begin it.
now a<00:00:01.000><c> sh</c><00:00:01.033><c>ot</c>

00:00:01.500 --> 00:00:01.567 align:start position:0%
begin it.
now a shot
~
""".replace("~", " ")
# A downloader has moved the cues of such a stream, and not the words' times.
MOVED_VTT = """WEBVTT

02:00:10.000 --> 02:00:12.000
we<00:00:02.051><c> st</c><00:00:02.084><c>art</c><00:00:02.118><c> anew</c>
"""
# An editor has stripped the space that clears the screen.
STRIPPED_VTT = """WEBVTT

00:00:01.000 --> 00:00:02.990 align:start position:0%

a<00:00:01.500><c> corner</c>

00:00:02.990 --> 00:00:03.000 align:start position:0%
a corner


00:00:03.000 --> 00:00:04.000 align:start position:0%
a corner
kick

00:00:04.000 --> 00:00:04.010 align:start position:0%


2
00:00:05.000 --> 00:00:06.000 align:start position:0%

it<00:00:05.500><c> is</c>
"""

# A converter has made SubRip of it: tags, blank lines and word times are gone, rolling lines are not.
ROLLED_SRT = """1
00:00:00,160 --> 00:00:02,389
and here they come

2
00:00:02,389 --> 00:00:02,399
and here they come

3
00:00:02,399 --> 00:00:04,000
and here they come
no

4
00:00:04,000 --> 00:00:04,010
no

5
00:00:04,010 --> 00:00:06,010
no
no

6
00:00:06,010 --> 00:00:06,020
no

7
00:00:06,020 --> 00:00:09,000
no
what a goal
"""

PAINTED_SRT = """1
00:00:00,160 --> 00:00:01,000
the

2
00:00:01,000 --> 00:00:02,399
the ball

3
00:00:02,399 --> 00:00:04,000
the ball is &lt;in&gt;

4
00:00:04,000 --> 00:00:06,000
and now again
"""

ODD_VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE this is
no speech

intro
00:01.000 --> 00:02.000 line:0
<v Bob><i>Hello</i> &amp; welcome

100:00:02.000 --> 100:00:03.000
too late

00:02.000 --> bad
not a cue

00:02.000 --> 00:04.000
the score is
3

00:03.500 --> 00:05.000
overlaps

00:03.510 --> 00:06.000
- Yes.
- JOHN: Well-done!

00:07.000 --> 00:06.500
backwards
"""

HAND_MADE_SRT = """1
00:00:01,000 --> 00:00:02,000
Goal!

2
00:00:02,000 --> 00:00:03,000
Goal!

3
0:0:3,5 --> 0:0:4,25 X1:10 X2:20
{\\an8}<font color="#fff">(crowd cheering)</font>

4
00:00:05.000 --> 00:00:06.000
MAN: it's 2-1

00:00:06,000 --> 00:00:07,000
\u266a la la \u266a no number [laughs
out loud] here

6
00:00:08,000 --> 00:00:09,000

7
00:00:09,000 --> 00:00:10,000
before a blank line

after it

8
00:00:11,000 --> 00:00:12,000
it ends
1984"""


def json3(*events: tuple) -> bytes:
    """Events of (start in ms, duration, [(offset or None, text), ...])."""
    segments = [
        [{"utf8": text} | ({} if at is None else {"tOffsetMs": at}) for at, text in pieces] for _, _, pieces in events
    ]
    timed = zip(events, segments, strict=True)
    rows = [{"tStartMs": start, "dDurationMs": duration, "segs": segs} for (start, duration, _), segs in timed]
    return json.dumps({"wireMagic": "pb3", "events": [{"tStartMs": 0, "dDurationMs": 9000, "id": 1}, *rows]}).encode()


AUTOMATIC_JSON3 = json3(
    (160, 4000, [(None, ">> and"), (320, " here"), (840, " they"), (1340, " come")]),
    (2389, 10, [(None, "\n")]),
    (2399, 3000, [(None, "no")]),
    (4010, 3000, [(None, "no")]),
    (6020, 3000, [(None, "[Music]"), (280, " what"), (480, " a"), (580, " [\xa0__\xa0]"), (880, " R&B")]),
    (30000, 2000, [(None, "R&B"), (500, " goal")]),
)
WRITTEN_JSON3 = json3(
    (1000, 4000, [(None, "Tom & <Jerry>\n- and me")]),
    (3000, 1000, [(None, "so &amp; on")]),
    (9000, 500, [(None, "[x]")]),
)

STYLED_JSON3 = json3(
    (0, 900, [(None, "G"), (None, "oal"), (None, "! "), (None, "for")]), (950, 500, [(None, "red\u4e00\u4e8c")])
)
PARTLESS_JSON3 = json3((0, 2500, [(None, "\u8fdb\u7403"), (1500, "\u4e86"), (1800, " yes")]))

SCRIPT = "[Script Info]\nScriptType: v4.00+\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, "
SCRIPT += "MarginV, Effect, Text\n"


def clock(ms: int, point: str = ",") -> str:
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}{point}{ms % 1000:03d}"


def srt(cues: list[tuple[int, int, str]]) -> bytes:
    """Cues of (start in ms, end, text) as SubRip."""
    return "\n".join(f"{i}\n{clock(a)} --> {clock(b)}\n{text}\n" for i, (a, b, text) in enumerate(cues, 1)).encode()


def vtt(cues: list[tuple[int, int, str]]) -> bytes:
    """The same as WebVTT."""
    return ("WEBVTT\n" + "".join(f"\n{clock(a, '.')} --> {clock(b, '.')}\n{text}\n" for a, b, text in cues)).encode()


def ass(cues: list[tuple[int, int, str]]) -> bytes:
    """The same as SubStation, whose times are hundredths."""
    rows = [
        f"Dialogue: 0,{clock(a, '.')[1:-1]},{clock(b, '.')[1:-1]},Default,Ann,0,0,0,,{text}\n" for a, b, text in cues
    ]
    return (SCRIPT + "".join(rows)).encode()


Spoken = list[tuple[int, int, str]]  # words of one line: start in ms, end, text


def marked_cues(lines: list[Spoken], opens: str, closes: str, quote=str) -> list[tuple[int, int, str]]:
    """A cue for each word of a line, in which that word is marked, and one without a mark while nobody speaks."""
    cues = []
    for line in lines:
        for i, (start, end, _) in enumerate(line):
            if i and line[i - 1][1] < start:
                cues.append((line[i - 1][1], start, " ".join(quote(word) for _, _, word in line)))
            text = " ".join(opens + quote(w) + closes if k == i else quote(w) for k, (_, _, w) in enumerate(line))
            cues.append((start, end, text))
    return cues


def word_timed(lines: list[Spoken], form: str) -> tuple[bytes, str]:
    """Words with the times at which they are spoken, in a form of captions that has them, and its suffix."""
    if form in ("u", "i", "b"):
        return srt(marked_cues(lines, f"<{form}>", f"</{form}>")), ".srt"
    if form == "font":
        return srt(marked_cues(lines, '<font color="#00ff00">', "</font>")), ".srt"
    if form == "class":
        return vtt(marked_cues(lines, "<c.now>", "</c>", html.escape)), ".vtt"
    if form == "colour":
        return ass(marked_cues(lines, "{\\1c&H00FF00&}", "{\\r}")), ".ass"
    if form == "whisper":
        rows = [[{"word": f" {w}", "start": a / 1000, "end": b / 1000} for a, b, w in line] for line in lines]
        segments = [{"start": r[0]["start"], "end": r[-1]["end"], "text": " ".join(w for _, _, w in line), "words": r}
                    for r, line in zip(rows, lines, strict=True)]  # fmt: skip
        return json.dumps({"segments": segments, "language": "en"}).encode(), ".json"
    spans = [" ".join(f'<span begin="{a}ms" end="{b}ms">{html.escape(w)}</span>' for a, b, w in line) for line in lines]
    body = "".join(f"<p>{text}</p>" for text in spans)
    return f'<tt xmlns="http://www.w3.org/ns/ttml" xml:lang="en"><body><div>{body}</div></body></tt>'.encode(), ".ttml"


def line_timed(lines: list[Spoken], form: str) -> tuple[bytes, str]:
    """The same where a line's times alone are kept."""
    cues = [(line[0][0], line[-1][1], " ".join(word for _, _, word in line)) for line in lines]
    quoted = [(a, b, html.escape(text)) for a, b, text in cues]
    if form == "sbv":
        rows = [f"{clock(a, '.')[1:]},{clock(b, '.')[1:]}\n{text}\n" for a, b, text in cues]
        return "\n".join(rows).encode(), ".sbv"
    if form == "srv1":
        rows = [f'<text start="{a / 1000}" dur="{(b - a) / 1000}">{html.escape(text)}</text>' for a, b, text in quoted]
        return f"<transcript>{''.join(rows)}</transcript>".encode(), ".srv1"
    if form == "srv3":
        rows = [f'<p t="{a}" d="{b - a}"><s>{text}</s></p>' for a, b, text in quoted]
        return f'<timedtext format="3"><body>{"".join(rows)}</body></timedtext>'.encode(), ".srv3"
    if form == "ttml":
        rows = [f'<tt:p begin="{clock(a, ".")}" end="{clock(b, ".")}">{text}</tt:p>' for a, b, text in quoted]
        head = '<tt:tt xmlns:tt="http://www.w3.org/2006/10/ttaf1"><tt:body>'
        return f"{head}{''.join(rows)}</tt:body></tt:tt>".encode(), ".dfxp"
    return (vtt(quoted), ".vtt") if form == "vtt" else (ass(cues), ".ass") if form == "ass" else (srt(cues), ".srt")
