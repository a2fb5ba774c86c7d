"""Captions and folders as people have them: every word that is said comes out once, in order; the rest is counted."""

import contextlib
import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.production.folder_input import Files, FolderInput, FolderOptions, list_folder, rank_captions
from data.production.jsonl_input import parse_line
from data.production.pretrain_to_clips import PretrainClipOptions, PretrainToClips
from data.production.record import Record, from_line, to_line
from data.production.words.caption_files import BadCaptions, parse_captions, read_captions
from tests.videos import make_video, truncate
from utils.errors import UserError

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

CASES = [
    # name, suffix, data, words, left out
    ("rolled vtt", ".vtt", ROLLED_VTT, ROLLED_WORDS, {"bleeped": 1, "sound": 1}),
    ("automatic json3", ".json3", AUTOMATIC_JSON3, ROLLED_WORDS, {"bleeped": 1, "sound": 1}),
    ("written json3", ".json3", WRITTEN_JSON3, "Tom & <Jerry> and me so & on", {"sound": 1}),
    ("rolled srt", ".srt", ROLLED_SRT, "and here they come no no what a goal", {}),
    ("painted srt", ".srt", PAINTED_SRT, "the ball is <in> and now again", {}),
    ("odd vtt", ".vtt", ODD_VTT, "Hello & welcome the score is 3 overlaps Yes. Well-done! backwards",
     {"speaker": 1, "unreadable_cue": 2}),
    ("hand-made srt", ".srt", HAND_MADE_SRT,
     "Goal! Goal! it's 2-1 no number here before a blank line after it it ends 1984",
     {"sound": 7, "speaker": 1}),
    ("live segments", ".vtt", LIVE_VTT, "the reds begin it. now a shot", {}),
    ("moved cues", ".vtt", MOVED_VTT, "we start anew", {}),
    ("stripped blank lines", ".vtt", STRIPPED_VTT, "a corner kick it is", {}),
    ("styled json3", ".json3", STYLED_JSON3, "Goal! for red\u4e00\u4e8c", {}),
    ("json3 without spaces", ".json3", PARTLESS_JSON3, "\u8fdb\u7403 \u4e86 yes", {}),
    ("utf-16", ".srt", PAINTED_SRT.encode("utf-16"), "the ball is <in> and now again", {}),
    ("byte order mark, old line ends", ".vtt", b"\xef\xbb\xbf" + ODD_VTT.replace("\n", "\r\n").encode(),
     "Hello & welcome the score is 3 overlaps Yes. Well-done! backwards", {"speaker": 1, "unreadable_cue": 2}),
]  # fmt: skip


def said(transcript) -> list[str]:
    return " ".join(entry[2] for entry in transcript.words or transcript.captions).split()


@pytest.mark.parametrize(("suffix", "data", "words", "left_out"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_every_word_comes_out_once_and_in_order(suffix, data, words, left_out):
    transcript = parse_captions(data if isinstance(data, bytes) else data.encode(), suffix)
    assert said(transcript) == words.split()
    assert transcript.left_out == left_out
    check_times(transcript)


@pytest.mark.parametrize(("suffix", "data", "words", "left_out"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
@pytest.mark.parametrize("min_s", [1.0, 30.0])
def test_every_word_goes_to_one_clip_or_one_rejection(suffix, data, words, left_out, min_s):
    transcript = parse_captions(data if isinstance(data, bytes) else data.encode(), suffix)
    stage = PretrainToClips(PretrainClipOptions(min_s=min_s, min_words_per_s=0.1, max_words_per_s=100))
    parts = stage.process([Record("v", words=transcript.words, captions=transcript.captions)])[0]
    entries = sorted((start_s, text) for part in parts for start_s, _, text in [*part.words, *part.captions])
    assert " ".join(text for _, text in entries).split() == words.split()
    assert all(part.rejection for part in parts) == (min_s == 30.0)


def check_times(transcript) -> None:
    entries = transcript.words or transcript.captions
    assert not (transcript.words and transcript.captions)
    assert all(0 <= start_s <= end_s for start_s, end_s, _ in entries)
    assert all(a[1] <= b[0] for a, b in pairwise(entries)), "entries overlap or are out of order"
    assert all(text and text == " ".join(text.split()) for _, _, text in entries)


def test_word_times_are_kept():
    for suffix, data in ((".vtt", ROLLED_VTT.encode()), (".json3", AUTOMATIC_JSON3)):
        transcript = parse_captions(data, suffix)
        starts = {word: start_s for start_s, _, word in reversed(transcript.words)}
        assert (starts["and"], starts["here"], starts["they"], starts["come"]) == (0.16, 0.48, 1.0, 1.5)
        assert [start_s for start_s, _, word in transcript.words if word == "no"] == [2.399, 4.01]
        assert [(a, b) for a, b, word in transcript.words if word == "R&B"] == [(6.9, 7.9), (30.0, 30.5)]
    assert parse_captions(ROLLED_VTT.encode(), ".vtt").language == "en"


def test_word_times_of_live_streams():
    """Segments lie on one clock; times that were left behind are spread over their cue; stripped lines lose none."""
    assert parse_captions(LIVE_VTT.encode(), ".vtt").words[2:] == [
        [0.311, 0.466, "begin"], [0.466, 1.466, "it."], [2.0, 3.0, "now"], [4.633, 5.0, "a"], [6.0, 6.5, "shot"],
    ]  # fmt: skip
    spread = [start_s for start_s, _, _ in parse_captions(MOVED_VTT.encode(), ".vtt").words]
    assert spread == [7210.0, 7210.667, 7211.333]
    stripped = parse_captions(STRIPPED_VTT.encode(), ".vtt").words
    assert [start_s for start_s, _, _ in stripped] == [1.0, 1.5, 3.0, 5.0, 5.5]


def test_captions_keep_their_times_without_overlaps():
    captions = parse_captions(ODD_VTT.encode(), ".vtt").captions
    assert captions[0] == [1.0, 2.0, "Hello & welcome"]
    assert captions[1:3] == [[2.0, 3.5, "the score is 3"], [3.5, 6.0, "overlaps Yes. Well-done!"]]
    assert captions[3] == [7.0, 7.3, "backwards"], "a cue that ends before it starts gets 0.3 s a word"


@pytest.mark.parametrize(
    ("suffix", "data", "reason"),
    [
        (".vtt", b"", "malformed_captions"), (".vtt", b"hello", "malformed_captions"),
        (".vtt", b"WEBVTT\n", "no_captions"),
        (".srt", b"", "no_captions"), (".srt", b"\xff\x00\x80", "bad_encoding"), (".json3", b"{", "malformed_captions"),
        (".json3", b"[]", "malformed_captions"), (".json3", b'{"events": 3}', "malformed_captions"),
        (".json3", b'{"events": [3, {"segs": 4}, {"tStartMs": "x", "segs": []}]}', "no_captions"),
        (".vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\nd\xe9j\xe0".encode("latin-1"), "bad_encoding"),
        (".vtt", b"\xff\xfeW", "bad_encoding"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_says_why(tmp_path: Path, suffix: str, data: bytes, reason: str):
    path = tmp_path / f"NAME{suffix}"
    path.write_bytes(data)
    with pytest.raises(BadCaptions, match=f"NAME{suffix}") as caught:
        read_captions(path)
    assert caught.value.reason == reason


def test_other_encodings_are_named_and_sizes_are_limited(tmp_path: Path):
    path = tmp_path / "NAME.srt"
    path.write_bytes("1\n00:00:01,000 --> 00:00:02,000\nd\xe9j\xe0\n".encode("cp1252"))
    assert said(read_captions(path, "cp1252")) == ["déjà"]
    with pytest.raises(BadCaptions, match="over 10 bytes"):
        read_captions(path, max_bytes=10)


MARKS = st.sampled_from(
    ["\n", "\n\n", " ", "<", ">", "<c>", "</c>", "[", "]", "&amp;", "&#39;", "&", ">>", "\u266a", "(", ")", "{\\an8}",
     "-->", "00:00:01.000", "<00:00:02.000>", "00:00:01.000 --> 00:00:02.000\n", "00:00:03,000 --> 00:00:02,000\n", "7",
     "NOTE", "word", "Word:", "-", "\0", "\u200b", "\ud7ff", "999999999:99:99.999"]
)  # fmt: skip
TEXTS = st.lists(st.one_of(MARKS, st.text(max_size=8)), max_size=40).map("".join)


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, suffix=st.sampled_from([".vtt", ".srt"]), has_head=st.booleans())
def test_any_text_is_read_or_refused(text: str, suffix: str, has_head: bool):
    data = (("WEBVTT\n\n" if has_head and suffix == ".vtt" else "") + text).encode(errors="ignore")
    try:
        transcript = parse_captions(data, suffix)
    except BadCaptions:
        return
    check_times(transcript)
    json.dumps(transcript.words + transcript.captions)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["events", "segs", "utf8", "tStartMs", "dDurationMs", "tOffsetMs", "x"]), inner
        )
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(events=st.lists(JSON, max_size=5))
def test_any_json3_is_read_or_refused(events: list):
    with contextlib.suppress(BadCaptions):
        check_times(parse_captions(json.dumps({"events": events}).encode(), ".json3"))


@settings(max_examples=150, deadline=None)
@given(data=st.one_of(st.binary(max_size=60), JSON.map(lambda value: json.dumps(value).encode())))
def test_any_line_is_a_record_or_a_rejection(data: bytes):
    record = parse_line(data, "videos.jsonl", 7)
    if record.rejection is not None:
        assert "videos.jsonl:7" in record.rejection.detail
    assert from_line(to_line(record)) == record


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, max_size=30), data=st.data())
def test_a_rolled_transcript_gives_back_its_words(words: list[str], data):
    """Written as YouTube does, with lines of any lengths and repeats of any kind."""
    lines, left = [], list(words)
    while left:
        n = data.draw(st.integers(1, min(5, len(left))))
        lines.append(left[:n])
        left = left[n:]
    text, before = "WEBVTT\n", ""
    for i, line in enumerate(lines):
        at, step = 3000 * i, 100
        timed = "".join(f"<00:{ms // 60000:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}><c> {word}</c>" for ms, word in
                        zip(range(at + step, at + 900, step), line[1:], strict=False))  # fmt: skip
        stamp = [f"00:{ms // 60000:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}" for ms in (at, at + 2990, at + 3000)]
        text += f"\n{stamp[0]} --> {stamp[1]} align:start\n{before or ' '}\n{line[0]}{timed}\n"
        before = " ".join(line)
        text += f"\n{stamp[1]} --> {stamp[2]} align:start\n{before}\n \n"
    assert said(parse_captions(text.encode(), ".vtt")) == words


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A folder as yt-dlp leaves it, with all that goes wrong in one."""
    folder = tmp_path_factory.mktemp("videos")
    name = "A #1 title [abc_-123456]"
    make_video(folder / f"{name}.mp4")
    info = {"id": "abc_-123456", "title": " A  title\u200b", "categories": ["Sports"], "channel": "Somebody",
            "duration": 99, "height": 1080, "language": "en-US", "license": None, "_type": "video"}  # fmt: skip
    (folder / f"{name}.info.json").write_text(json.dumps(info))
    (folder / f"{name}.de.vtt").write_text(ROLLED_VTT)
    (folder / f"{name}.en.vtt").write_text(ROLLED_VTT)
    (folder / f"{name}.en.json3").write_text("broken")
    (folder / f"{name}.live_chat.json").write_text("{}")
    (folder / "plain").mkdir()
    shutil.copy(folder / f"{name}.mp4", folder / "plain" / "b.mp4")
    truncate(folder / f"{name}.mp4", 0.2, folder / "plain" / "cut.mp4")
    (folder / "plain" / "c.mp4.part").write_bytes(b"x")
    (folder / "plain" / "c.f137.mp4").write_bytes(b"x")
    (folder / "plain" / ".hidden.mp4").write_bytes(b"x")
    (folder / "orphan.en.srt").write_text(HAND_MADE_SRT)
    (folder / "playlist.info.json").write_text('{"_type": "playlist", "title": "all"}')
    (folder / "odd.info.json").write_text('{"title": 3}')
    with open(os.fsencode(folder) + b"/name\xff.mp4", "wb") as file:
        file.write(b"x")
    return folder


def read_all(*folders: Path, size: int = 2, **options) -> list[Record]:
    source = FolderInput(FolderOptions([str(folder) for folder in folders], **options))
    shards = [json.loads(json.dumps(shard)) for shard in source.shards(size)]
    return [from_line(to_line(record)) for shard in shards for record in source.read(shard)]


def test_a_folder_of_yt_dlp_works_as_it_is(videos: Path):
    records = read_all(videos)
    whole = records[0]
    assert whole.id == "A %231 title [abc_-123456].mp4" and whole.video == str(videos / "A #1 title [abc_-123456].mp4")
    assert (whole.title, whole.category, whole.channel, whole.language) == ("A title", "Sports", "Somebody", "en-US")
    assert (whole.height, whole.width, whole.duration_s) == (72, 160, 3.0), "the file knows better than its .info.json"
    assert whole.text == ROLLED_WORDS and whole.extra["captions"] == "en.vtt"
    assert whole.extra["captions_left_out"] == {"bleeped": 1, "sound": 1}
    assert len({record.id for record in records}) == len(records) == 7
    fates = {record.id: record.rejection and record.rejection.reason for record in records[1:]}
    reasons = [fates.pop(name) for name in ("odd", "orphan", "plain/b.mp4", "plain/cut.mp4", "playlist")]
    assert reasons == ["malformed_info", "no_video", None, "broken_video", "playlist"]
    assert list(fates.values()) == ["bad_name"]


def test_options_of_a_folder(videos: Path, tmp_path: Path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "b.en-GB.srt").write_text(HAND_MADE_SRT)
    by_id = {r.id: r for r in read_all(videos, caption_folder=str(tmp_path), open_videos=False)}
    assert by_id["plain/b.mp4"].captions[0] == [1.0, 2.0, "Goal!"] and by_id["plain/b.mp4"].language == "en"
    assert by_id["plain/cut.mp4"].rejection is None, "videos are not opened"
    assert by_id["A %231 title [abc_-123456].mp4"].height == 1080
    by_id = {r.id: r for r in read_all(videos, captions_required=True, languages=["de"])}
    assert by_id["A %231 title [abc_-123456].mp4"].extra["captions"] == "de.vtt"
    assert by_id["plain/b.mp4"].rejection.reason == "no_captions"
    orphan = {r.id: r for r in read_all(videos, videos_required=False)}["orphan"]
    assert orphan.rejection is None and orphan.video == "" and orphan.captions


def test_shards_know_when_a_file_has_changed(videos: Path, tmp_path: Path):
    copy = Path(shutil.copytree(videos / "plain", tmp_path / "copy"))
    source = FolderInput(FolderOptions([str(copy)]))
    first = list(source.shards(10))
    assert list(source.shards(10)) == first
    (copy / "b.en.vtt").write_text(ROLLED_VTT)
    assert list(source.shards(10)) != first


def test_folders_that_cannot_work(videos: Path, tmp_path: Path):
    for folders, options, message in [
        ([], {}, "no folders"), ([tmp_path / "none"], {}, "no such folder"), ([tmp_path], {}, "no video"),
        ([videos, videos / "plain"], {}, "overlap"), ([videos], {"caption_encoding": "utf-99"}, "encoding"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=message):
            read_all(*folders, **options)


def test_captions_are_found_by_name_and_ranked(tmp_path: Path):
    names = ["a.mp4", "a.en.mkv", "a.en.vtt", "a.en.en.srt", "a.srt", "b.c.webm", "b.c.pt-BR.vtt", "b.en.vtt"]
    for name in names:
        (tmp_path / name).touch()
    assert list_folder(tmp_path) == [
        Files("a", ".mp4", "", (".srt",)), Files("a.en", ".mkv", "", (".en.srt", ".vtt")),
        Files("b", "", "", (".en.vtt",)), Files("b.c", ".webm", "", (".pt-BR.vtt",)),
    ]  # fmt: skip
    suffixes = [".de.vtt", ".en-GB.vtt", ".en-orig.json3", ".en.srt", ".en.vtt", ".vtt", ".eng.vtt"]
    assert rank_captions(suffixes, ["en"]) == [".en.vtt", ".en.srt", ".en-orig.json3", ".en-GB.vtt", ".vtt"]
