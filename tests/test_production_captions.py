"""Captions as people have them: every word that is said comes out once, in order; the rest is counted."""

import contextlib
import json
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.production.pretrain_to_clips import PretrainClipOptions, PretrainToClips
from data.production.record import Record
from data.production.words.caption_files import BadCaptions, parse_captions, read_captions
from tests.captions import (
    AUTOMATIC_JSON3,
    HAND_MADE_SRT,
    LIVE_VTT,
    MOVED_VTT,
    ODD_VTT,
    PAINTED_SRT,
    PARTLESS_JSON3,
    ROLLED_SRT,
    ROLLED_VTT,
    ROLLED_WORDS,
    STRIPPED_VTT,
    STYLED_JSON3,
    WRITTEN_JSON3,
)

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


LINES = ["進球 了", "Tor für Müller!", "and it is", "l’avant-centre", "so it is", "2-1"]


@pytest.mark.parametrize("suffix", [".srt", ".vtt"])
def test_plain_captions_are_those_that_ffmpeg_reads(tmp_path: Path, suffix: str):
    path = tmp_path / f"Fußball{suffix}"
    stamps = [
        f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}.{(7 * s) % 1000:03d}" for s in (0, 3, 59, 61, 3599, 36001)
    ]
    ends = [f"{stamp[:-3]}999" for stamp in stamps]
    cues = [f"{i}\n{a} --> {b}\n{text}\n" for i, (a, b, text) in enumerate(zip(stamps, ends, LINES, strict=True), 1)]
    text = "\n".join(cues)
    path.write_text(text.replace(".", ",") if suffix == ".srt" else f"WEBVTT\n\n{text}", encoding="utf-8")
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(subtitles=0) if packet.size]
        ticks = [(packet.pts, packet.pts + packet.duration) for packet in packets]
        read = [[*(round(float(at * packet.time_base), 3) for at in both), bytes(packet).decode().strip()]
                for packet, both in zip(packets, ticks, strict=True)]  # fmt: skip
    assert len(read) == len(LINES) and read_captions(path).captions == read


MARKS = st.sampled_from(
    ["\n", "\n\n", " ", "<", ">", "<c>", "</c>", "[", "]", "&amp;", "&#39;", "&", ">>", "\u266a", "(", ")", "{\\an8}",
     "-->", "00:00:01.000", "<00:00:02.000>", "00:00:01.000 --> 00:00:02.000\n", "00:00:03,000 --> 00:00:02,000\n", "7",
     "NOTE", "word", "Word:", "-", "\0", "\u200b", "\ud7ff", "999999999:99:99.999"]
)  # fmt: skip
TEXTS = st.lists(st.one_of(MARKS, st.text(max_size=8)), max_size=40).map("".join)


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
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


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(events=st.lists(JSON, max_size=5))
def test_any_json3_is_read_or_refused(events: list):
    with contextlib.suppress(BadCaptions):
        check_times(parse_captions(json.dumps({"events": events}).encode(), ".json3"))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
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
