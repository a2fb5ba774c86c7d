"""Commentary files are read from every form and written back; subtitles are valid, complete and inert."""

import html
import json
import re
from itertools import pairwise
from pathlib import Path

import pysubs2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from demo.render.captions import LINE_COLUMNS, MOST_SHOWN_S, captions
from demo.render.commentary import FinishedCommentary, QuestionAnswer, Spoken, read_commentary, short_name
from demo.render.lines import columns, pages, wrap
from demo.render.subtitles import UNMARKED, main, plain_text, sentences, srt, vtt
from utils.errors import UserError

STEPS = [
    (0.0, 3.0, "Cyan kick off,"),
    (3.0, 4.0, "nil one. Orange"),
    (5.0, 6.0, "win it & <b>shoot</b>!"),
    (30.0, 31.0, "7"),
]
QUESTIONS = [(4.0, "What is the score?", "Nil one.")]
VTT_TIME = r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})"
LONG = (
    "With the ball at his feet the winger looks up, sees nobody, turns back inside and plays it square; that is a "
    "patient move by a side which, let us be honest, has not been known for its patience this season. A corner."
)


def commentary(**changes) -> FinishedCommentary:
    values = {"steps": STEPS, "questions": QUESTIONS, "query": "Speak.", "model": "nano", "video": "match.mp4"}
    return FinishedCommentary(**values | changes)


def cues_of(text: str) -> list[tuple[int, int, str]]:
    """(start ms, end ms, text) of a WebVTT file, read by its grammar; AssertionError where it breaks a rule."""
    assert text.startswith("WEBVTT\n\n") and "\0" not in text and "\r" not in text
    found = []
    for block in text.removeprefix("WEBVTT\n\n").split("\n\n"):
        if not block:
            continue
        timing, *lines = block.split("\n")
        match = re.fullmatch(f"{VTT_TIME} --> {VTT_TIME}", timing)
        assert match, f"{timing!r} is no timing"
        numbers = [int(number) for number in match.groups()]
        start, end = (((h * 60 + m) * 60 + s) * 1000 + ms for h, m, s, ms in (numbers[:4], numbers[4:]))
        assert start < end and lines and all(lines), block
        for line in lines:
            assert "-->" not in line and "<" not in line and ">" not in line, line
            assert re.fullmatch(r"(?:[^&]|&(?:amp|lt|gt);)*", line), f"{line!r} has a bare &"
        found.append((start, end, html.unescape("\n".join(lines))))
    return found


def words(text: str) -> list[str]:
    return text.split()


def test_json_is_read_back_as_it_was(tmp_path: Path):
    path = tmp_path / "commentary.json"
    commentary(duration_s=31.5).write(path)
    assert read_commentary(path) == commentary(duration_s=31.5)
    assert read_commentary(path).steps[0] == Spoken(0.0, 3.0, "Cyan kick off,")
    assert read_commentary(path).questions == [QuestionAnswer(4.0, "What is the score?", "Nil one.")]


def viewing(**changes) -> dict:
    steps = [
        {"type": "step", "start_s": s, "end_s": e, "text": t, "latency_s": 0.1} for s, e, t in [*STEPS, (8, 9, "")]
    ]
    answer = {"type": "answer", "asked_s": 4.0, "question": "What is the score?", "text": "Nil one.", "seconds": 0.2}
    header = {"type": "viewing", "model": "/home/me/models/nano", "video": "/home/me/match.mp4", "query": "Speak."}
    return {**header, "steps": steps, "answers": [answer], "end": None} | changes


def test_what_the_command_line_writes_is_read(tmp_path: Path):
    path = tmp_path / "viewing.json"
    path.write_text(json.dumps(viewing(), indent=1))
    assert read_commentary(path) == commentary()


def test_json_lines_of_the_server_are_read_and_answers_dated(tmp_path: Path):
    one = viewing()
    asked = {"id": 1, "question": "What is the score?"}
    records = [
        {"type": "header", "model": "nano", "source": "match.mp4", "query": "Speak.", "seq": 1},
        *one["steps"][:2], {"type": "piece", **asked, "text": "Nil"}, *one["steps"][2:],
        {"type": "answer", **asked, "text": "Nil one."}, {"type": "end"},
    ]  # fmt: skip
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_commentary(path) == commentary()


def test_an_evaluations_lines_are_read_for_one_video(tmp_path: Path):
    rows = [
        {"video_id": "other", "event_id": 1, "begin": 0, "end": 5, "pred": "no"},
        {"video_id": "match", "event_id": 1, "begin": 2.0, "end": 12.0, "pred": "one two three ... four five ..."},
        {"video_id": "match", "event_id": 2, "begin": 20.0, "end": 20.5, "pred": "six"},
    ]
    path = tmp_path / "Model.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = read_commentary(path, "videos/match.mp4")
    assert read.steps == [(2.0, 3.0, "one two"), (3.0, 4.0, "three four five"), (20.0, 20.5, "six")]
    with pytest.raises(UserError, match=r"holds 2 videos \(match, other\)"):
        read_commentary(path, "third.mp4")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "is no JSON"), ("not json", "is no JSON"), ("[]", "holds no JSON objects"), ("{}", "holds no commentary"),
        ('{"steps": [{"start_s": 0}]}', "'end_s'"), ('{"steps": 3}', "not iterable"),
        ('{"type": "commentary", "steps": [[0, 1]]}', "not enough values"),
        ('{"type": "commentary", "steps": [[0, 1, 5]]}', "a text is 5"),
        ('{"type": "commentary", "steps": [[3, 1, "x"]]}', "must be a number from 3"),
        ('{"type": "commentary", "steps": [[0, NaN, "x"]]}', "must be a number"),
        ('{"type": "header"}\n{"type": "st', "line 2 is no JSON"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_with_its_cause(tmp_path: Path, text: str, cause: str):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(cause)) as caught:
        read_commentary(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UserError, match="No such file"):
        read_commentary(tmp_path / "none.json")


def test_names_hold_no_folders_and_no_passwords():
    assert short_name("/home/me/models/nano") == "nano" and short_name("C:\\videos\\a.mp4") == "a.mp4"
    assert short_name("chenjoya/LiveCC-7B-Base") == "chenjoya/LiveCC-7B-Base"
    assert short_name("rtsp://me:secret@host/path?token=1") == "rtsp://host/path"


@pytest.mark.parametrize("at", ["end", "start"])
def test_cues_parse_back_with_every_word_once(at: str):
    given_ = commentary(steps=[*STEPS, (40.0, 41.0, LONG), (41.0, 42.0, "--> 00:00:01.000 {\\an8}over")])
    said = [word for step in given_.steps for word in words(step.text)]
    cues = cues_of(vtt(given_, at))
    assert [word for _, _, text in cues for word in words(text)] == said
    assert all(end <= start for (_, end, _), (start, _, _) in pairwise(cues))
    parsed = pysubs2.SSAFile.from_string(srt(given_, at), format_="srt", keep_unknown_html_tags=True)
    assert [(line.start, line.end) for line in parsed] == [cue[:2] for cue in cues]
    as_text = re.sub(r"\d+\n\S+ --> \S+\n(.*?)\n\n", r"\1\n", srt(given_, at), flags=re.DOTALL)
    assert words(as_text.replace(UNMARKED, "")) == said


def test_a_caption_stands_from_when_it_was_spoken_until_the_next():
    said = [text for _, _, text in STEPS]
    times = [(3.0, 4.0), (4.0, 6.0), (6.0, 6.0 + MOST_SHOWN_S), (31.0, 38.0)]
    assert [((c.start_s, c.end_s), " ".join(c.lines)) for c in captions(commentary())] == list(
        zip(times, said, strict=True)
    )
    beside = [(0.0, 3.0), (3.0, 5.0), (5.0, 5.0 + MOST_SHOWN_S), (30.0, 37.0)]
    shown = captions(commentary(), "start")
    assert [((c.start_s, c.end_s), " ".join(c.lines)) for c in shown] == list(zip(beside, said, strict=True))


def test_the_last_words_are_seen_before_the_video_ends():
    steps = [(i, i + 1.0, f"word{i}") for i in range(31)]  # the step of the last frame passes the end by 0.9 s
    shown = captions(FinishedCommentary(steps=steps, duration_s=30.083))
    assert [word for c in shown for word in c.lines] == [f"word{i}" for i in range(31)]
    assert shown[-1].start_s == pytest.approx(29.583) and shown[-1].end_s == pytest.approx(30.083)
    assert all(c.end_s - c.start_s >= 0.49 for c in shown) and shown[20].start_s == 21.0


def test_long_captions_are_cut_behind_clauses_and_share_the_time():
    shown = captions(FinishedCommentary(steps=[(0, 10, LONG), (10, 20, "Next.")]))
    assert [c.end_s for c in shown[:-2]] == [c.start_s for c in shown[1:-1]] and shown[-2].end_s == 20.0
    assert all(len(c.lines) <= 2 and columns(line) <= LINE_COLUMNS for c in shown for line in c.lines)
    assert shown[0].lines[-1].endswith((",", ";", "."))


def test_markup_stays_text():
    bad = "<script>alert(1)</script> <img src=x onerror=alert(1)> &lt; {\\pos(0,0)} --> <c.red>"
    given_ = FinishedCommentary(steps=[(0, 1, bad)])
    assert " ".join(text for _, _, text in cues_of(vtt(given_))).replace("\n", " ") == bad
    for line in pysubs2.SSAFile.from_string(srt(given_), format_="srt", keep_unknown_html_tags=True):
        assert not re.search(r"<(?=[/a-z])|\{\\", line.text.replace("\\N", " "))


def test_line_breaks_and_controls_in_a_step_cannot_end_its_cue():
    given_ = FinishedCommentary(steps=[(0, 1, "one\n\n2\n00:00:09,000 --> 00:00:10,000\nfake\x00\x1b[31m \ud800")])
    assert len(cues_of(vtt(given_))) == 1
    assert len(pysubs2.SSAFile.from_string(srt(given_), format_="srt")) == 1


def test_plain_text_has_a_line_for_each_sentence_and_the_chat():
    assert plain_text(commentary()).splitlines() == [
        "match.mp4, nano", "Speak.", "", "00:00  Cyan kick off, nil one.", "00:03  Orange win it & <b>shoot</b>!",
        "00:04  Question: What is the score?", "       Answer: Nil one.", "00:30  7",
    ]  # fmt: skip
    assert sentences(FinishedCommentary(steps=[(3725, 3726, "a"), (3740, 3741, "b")])) == [(3725, "a"), (3740, "b")]
    assert plain_text(FinishedCommentary(steps=[(3725, 3726, "Late.")])) == "1:02:05  Late.\n"


def test_an_empty_commentary_is_an_empty_file():
    assert (srt(FinishedCommentary()), vtt(FinishedCommentary()), plain_text(FinishedCommentary())) == (
        "",
        "WEBVTT\n\n",
        "",
    )


def test_scripts_without_spaces_break_between_characters_and_not_before_a_full_stop():
    lines = wrap("球传到右路，射门得分了。" * 3, 20)
    assert all(columns(line) <= 20 for line in lines) and "".join(lines) == "球传到右路，射门得分了。" * 3
    assert not any(line.startswith(("，", "。")) for line in lines)


def test_a_word_wider_than_a_line_is_broken_but_not_its_characters():
    family = "👨‍👩‍👧‍👦"
    assert wrap("a" * 25, 10, balanced=False) == ["a" * 10, "a" * 10, "a" * 5]
    assert all(line.replace(family, "") == "" for line in wrap(family * 9, 8))
    assert wrap("e\u0301" * 12, 5, balanced=False)[0] == "e\u0301" * 5


FAMILY, FLAG = "👨‍👩‍👧‍👦", "🇰🇷"
SYLLABLE = "\u1100\u1161\u11a8"  # one Korean syllable written as three letters


@pytest.mark.parametrize("cluster", [FAMILY, FLAG, SYLLABLE, "👍🏽", "❤️", "e\u0301", "क्षि", "球"])
@pytest.mark.parametrize("width", [2, 3, 5, 8])
def test_no_line_or_page_ends_inside_what_is_seen_as_one_character(cluster: str, width: int):
    text = cluster * 9
    lines = wrap(text, width)
    assert "".join(lines) == text and all(set(line.split(cluster)) == {""} for line in lines)
    found = pages(text, width, 2)
    assert "".join(line for page in found for line in page) == text
    assert all(set(line.split(cluster)) == {""} for page in found for line in page)


@pytest.mark.parametrize(
    ("text", "n_columns"),
    [(FAMILY, 2), (FLAG, 2), (FLAG * 2, 4), (SYLLABLE, 2), ("한글", 4), ("e\u0301", 1), ("球x", 3), ("", 0)],
)
def test_columns_are_those_of_a_terminal(text: str, n_columns: int):
    assert columns(text) == n_columns


def test_words_of_hindi_stay_whole_where_they_fit():
    """Its vowel signs take a column each, which makes no letter a wide one."""
    assert wrap("नियमित नियमित", 9, balanced=False) == ["नियमित", "नियमित"]


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 20), st.text(max_size=150)), max_size=12),
    st.one_of(st.none(), st.floats(0.1, 120)),
)
@example([(1.5625, 0.0, "0")], 1.5625)  # a step at the end: its start and the end are rounded to one millisecond
def test_any_steps_give_valid_cues(steps: list, duration_s: float | None):
    given_ = FinishedCommentary(
        steps=[(start, start + length, text) for start, length, text in steps], duration_s=duration_s
    )
    cues = cues_of(vtt(given_))
    assert all(end <= start for (_, end, _), (start, _, _) in pairwise(cues))
    said = sorted("".join(words("".join(step.text for step in given_.steps))))
    assert sorted("".join(words("".join(text for _, _, text in cues)))) == said


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.text(max_size=300), st.integers(1, 60), st.integers(1, 4))
def test_pages_keep_every_character_in_order(text: str, width: int, most_lines: int):
    found = pages(text, width, most_lines)
    assert all(1 <= len(page) <= most_lines for page in found)
    assert "".join("".join(line.split()) for page in found for line in page) == "".join(text.split())


def test_the_command_writes_by_the_name_and_replaces_only_if_asked(tmp_path: Path):
    source = tmp_path / "viewing.json"
    source.write_text(json.dumps(viewing()))
    for name, expected in (
        ("a.srt", srt),
        ("a.VTT", vtt),
        ("a.txt", plain_text),
        ("a.json", FinishedCommentary.to_json),
    ):
        assert main([str(source), str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text() == expected(commentary())
    assert main([str(source), str(tmp_path / "a.srt"), "--captions_at", "start", "--overwrite"]) == 0
    assert (tmp_path / "a.srt").read_text() == srt(commentary(), "start")
    with pytest.raises(UserError, match="is there already"):
        main([str(source), str(tmp_path / "a.srt")])
    with pytest.raises(UserError, match=re.escape("must end in .srt, .vtt, .txt, .json")):
        main([str(source), str(tmp_path / "a.doc")])
