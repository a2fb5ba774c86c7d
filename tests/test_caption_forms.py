"""Captions of every maker and format: each word is spoken once, at its time, or counted by cause."""

from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data.production.words.caption_files import BadCaptions, parse_captions
from data.production.words.caption_times import milliseconds
from data.production.words.section import cut_section
from tests.captions import ass, line_timed, srt, vtt, word_timed

FUZZ = settings(max_examples=25, derandomize=True, deadline=None, database=None)
VOCABULARY = [
    "no",
    "go",
    "goal",
    "Kane",
    "it's",
    "x<y",
    "z>w",
    "3:45",
    "R&B",
    "می‌خواهم",
    "2-1",
    "🧑‍🚀",
    "and",
    "keeper.",
]


@st.composite
def transcripts(draw, step_ms: int = 10) -> list:
    """Lines of (start in ms, end, word); a line may be said again, and there are gaps between words and lines."""
    lines, at = [], draw(st.integers(0, 50)) * step_ms
    for _ in range(draw(st.integers(1, 6))):
        again = lines and draw(st.integers(0, 3)) == 0
        words = (
            [w for _, _, w in lines[-1]]
            if again
            else draw(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=7))
        )
        line = []
        for word in words:
            length = draw(st.integers(10, 90)) * step_ms
            line.append((at, at + length, word))
            at += length + draw(st.sampled_from([0, 0, 0, 20])) * step_ms
        lines.append(line)
        at += draw(st.sampled_from([0, 30, 200])) * step_ms
    return lines


def spoken(transcript) -> list[str]:
    return " ".join(entry[2] for entry in transcript.words or transcript.captions).split()


@pytest.mark.parametrize("form", ["u", "b", "i", "font", "class", "colour", "whisper", "span"])
@given(lines=transcripts())
@FUZZ
def test_marked_words_have_the_times_of_their_marks(form, lines):
    data, suffix = word_timed(lines, form)
    transcript = parse_captions(data, suffix)
    said = [word for line in lines for word in line]
    assert spoken(transcript) == [text for _, _, text in said] and transcript.left_out == {}
    if any(len(line) > 1 for line in lines):
        assert [[a / 1000, b / 1000, text] for a, b, text in said] == transcript.words


@pytest.mark.parametrize("form", ["srt", "vtt", "ass", "sbv", "srv1", "srv3", "ttml"])
@given(lines=transcripts())
@FUZZ
def test_lines_are_said_once_in_their_time_or_counted_as_shown_again(form, lines):
    texts = [[text for _, _, text in line] for line in lines]
    assume(not any(after[: len(line)] == line != after for line, after in pairwise(texts)))  # painted word by word
    transcript = parse_captions(*line_timed(lines, form))
    said = [text for line in lines for _, _, text in line]
    assert len(spoken(transcript)) + transcript.left_out.get("repeated", 0) == len(said)
    assert set(transcript.left_out) <= {"repeated"}
    assert all(" ".join(line) in " ".join(spoken(transcript)) for line in texts)
    starts = {line[0][0] / 1000 for line in lines}
    ends = {line[-1][1] / 1000 for line in lines}
    assert all(a in starts and b in ends for a, b, _ in transcript.words or transcript.captions)


def said(*texts: str, form=srt, suffix: str = ".srt") -> tuple[list[str], dict]:
    """What cues of a second each say, one after the other, and what is left out."""
    cues = [(1000 * i, 1000 * i + 1000, text) for i, text in enumerate(texts)]
    transcript = parse_captions(form(cues), suffix)
    return [entry[2] for entry in transcript.words or transcript.captions], transcript.left_out


def test_a_line_without_marks_lasts_until_it_is_shown_for_the_last_time():
    transcript = parse_captions(
        srt([(0, 400, "over the top"), (400, 900, "over the top"), (1000, 1400, "now")]), ".srt"
    )
    assert transcript.captions == [[0.0, 0.9, "over the top"], [1.0, 1.4, "now"]]
    assert transcript.left_out == {"repeated": 3}
    chanted = parse_captions(srt([(0, 400, "come on reds"), (2000, 2400, "come on reds")]), ".srt")
    assert len(chanted.captions) == 2, "with a pause between, it is said again"


def test_a_cue_for_each_word_has_its_time_and_what_is_said_again_is_said_again():
    cues = [
        (0, 200, "no"),
        (300, 500, "no"),
        (500, 900, "no"),
        (900, 1000, "he"),
        (1000, 1100, "is"),
        (1200, 1500, "in"),
    ]
    transcript = parse_captions(srt(cues), ".srt")
    assert transcript.words == [[a / 1000, b / 1000, text] for a, b, text in cues]


def test_marks_of_words_that_are_done_and_of_some_words_only():
    done = ["<c.y>And</c> the reds", "<c.y>And the</c> reds", "<c.y>And the reds</c>"]
    cues = [(1000 * i, 1000 * i + 1000, text) for i, text in enumerate(done)]
    assert parse_captions(vtt(cues), ".vtt").words == [[0, 1, "And"], [1, 2, "the"], [2, 3, "reds"]]
    some = [
        (0, 500, "<u>In</u> 2014 they won"),
        (1500, 2000, "In 2014 <u>they</u> won"),
        (2000, 2500, "In 2014 they <u>won</u>"),
    ]
    words = parse_captions(srt(some), ".srt").words
    assert words == [[0, 0.75, "In"], [0.75, 1.5, "2014"], [1.5, 2, "they"], [2, 2.5, "won"]]
    still = [(0, 1000, "so <i>very</i> close"), (1000, 2000, "so <i>very</i> close")]
    assert parse_captions(srt(still), ".srt").captions == [[0, 2, "so very close"]], "a mark that stays is emphasis"


def test_karaoke_of_substation():
    text = r"{\an8\k50}And {\kf20}the{\k130} reds{\k30}\Nwin{a remark}"
    transcript = parse_captions(ass([(1000, 3300, text)]), ".ass")
    assert transcript.words == [[1, 1.5, "And"], [1.5, 1.7, "the"], [1.7, 3, "reds"], [3, 3.3, "win"]]


@pytest.mark.parametrize(
    ("texts", "words", "n_names"),
    [
        (["Christina Miller: and they kick off", "Bob: left"], "and they kick off left", 3),
        (["Commentator: he shoots", "and", "Speaker 1: yes", "SPEAKER_02: no"], "he shoots and yes no", 4),
        (["[SPEAKER_00]: he", "[SPEAKER_01]: scores", "(Ann): yes", "@bob: go"], "he scores yes go", 4),
        (["Ursula von der Leyen: a", "b", "c", "d", "Ursula von der Leyen: e"], "a b c d e", 8),
        ([">> Tom Ray: in", "- Ann: off the post", "now"], "in off the post now", 3),
        (["JOHN: it's in", "what a goal"], "it's in what a goal", 1),
        (["<b>Bob:</b> over", "x", "Bob: out", "y", "z"], "over x out y z", 2),
        (["The score: two nil", "he shot at 3:45", "Note: he is fine", "at 3: no"],
         "The score: two nil he shot at 3:45 Note: he is fine at 3: no", 0),
        (["Final Score: 2-1", "Final Score: 3-1", "Half Time: break", "Goal: Kane"],
         "Final Score: 2-1 Final Score: 3-1 Half Time: break Goal: Kane", 0),
        (["Keeper: holds it", "the keeper again", "Keeper: off his line", "so", "on"],
         "Keeper: holds it the keeper again Keeper: off his line so on", 0),
        (["Messi: what a run", "he goes", "on", "and on"], "Messi: what a run he goes on and on", 0),
        (["NOTE: he is fine", "Ann: in", "Bob: out", ">> Update: over"], "NOTE: he is fine in out Update: over", 2),
        (["田中：右へ", "鈴木：シュート"], "右へ シュート", 2),
    ],
)  # fmt: skip
def test_names_before_a_colon_are_not_spoken_and_other_words_are(texts, words, n_names):
    for form, suffix in ((srt, ".srt"), (vtt, ".vtt")):
        found, left_out = said(*texts, form=form, suffix=suffix)
        assert " ".join(found).split() == words.split() and left_out.get("speaker", 0) == n_names


@pytest.mark.parametrize(
    ("texts", "words", "n_sung"),
    [
        (["♪ we are the champions", "my friends", "till the end ♪", "what a goal"], "what a goal", 9),
        (["♪ la la", "what a goal", "♪ my my", "yes"], "what a goal yes", 4),
        (["♪ one\n♪ two", "yes", "♪ three"], "yes", 3),
        (["♪ one\nthree ♪", "so they sing ♪ la la", "♪♪", "yes"], "so they sing yes", 4),
        (["# and we'll keep on fighting #", "# we are\nthe champions", "my friends #", "yes"], "yes", 11),
        (["# 10 shoots", "#goal it is", "he wears # 7"], "10 shoots #goal it is he wears 7", 0),
        (["*crowd cheering*", "*laughs* what a goal", "he *really* did it"], "what a goal he *really* did it", 3),
        (["[ominous music\nplaying]", "🎵 la la 🎵", "yes"], "yes", 5),
    ],
)  # fmt: skip
def test_songs_and_sounds_are_left_out_over_several_cues(texts, words, n_sung):
    found, left_out = said(*texts)
    assert " ".join(found).split() == words.split() and left_out.get("sound", 0) == n_sung


def test_brackets_and_joiners_of_speech_stay_and_tags_and_marks_of_direction_go():
    persian, sinhala, astronaut = "می\u200cخواهم", "ක්\u200dරි", "🧑\u200d🚀"
    found, left_out = said(
        "if x<y and z>w then", f"{persian} {sinhala} {astronaut} go", "\u202bسلام!\u202c\u200e so\u00adft\ufeff",
        "I <3 you", "a<br>b <laughs>", "<FONT COLOR=red>c</FONT><i>d</i> <v Bob>e &amp; &lt;f&gt; &#39;g",
        "<00:00:01.500>h {\\an8}i",
    )  # fmt: skip
    assert found == ["if x<y and z>w then", f"{persian} {sinhala} {astronaut} go", "سلام! soft", "I <3 you",
                     "a b <laughs>", "cd e & <f> 'g", "h i"]  # fmt: skip
    assert left_out == {}


@pytest.mark.parametrize(
    ("time", "ms"),
    [
        ("00:00:20", 20000), ("00:00:01,000", 1000), ("00:00:01.5", 1500), ("01:02.345678", 62346), ("12.5", 12500),
        ("1:02:03", 3723000), ("0:0:3,5", 3500), ("00:00:01:250", 1250), ("100:00:00", 360_000_000),
        ("00:00:01:12", None),
    ],
)  # fmt: skip
def test_forms_of_times(time, ms):
    assert milliseconds(time) == ms
    if ms is None:
        return
    cue = f"{time} --> {time if ms > 300_000_000 else '00:59:59'}\nhe shoots\n"
    for data, suffix in ((cue, ".srt"), (f"WEBVTT\n\n{cue}", ".vtt"), (f"1\n{cue}\n2\n{cue}", ".srt")):
        transcript = parse_captions(data.encode(), suffix)
        assert transcript.captions[0][0] == ms / 1000


def test_numbers_of_cues_are_no_words_and_numbers_at_the_end_of_a_line_are():
    assert parse_captions(b"00:00:01 --> 00:00:02\nit ends\n2\n\n00:00:03 --> 00:00:04\n1984\n", ".srt").captions == [
        [1, 2, "it ends 2"], [3, 4, "1984"],
    ]  # fmt: skip
    assert parse_captions(b"1\n00:00:01 --> 00:00:02\nit ends\n\n2\n00:00:03 --> 00:00:04\n7\n", ".srt").captions == [
        [1, 2, "it ends"], [3, 4, "7"],
    ]  # fmt: skip
    left_out = parse_captions(b"1\n00:00:01 --> 00:00:02\na --> b\n\n2\n00:00:x --> 00:00:04\nlost\n", ".srt").left_out
    assert left_out == {"unreadable_cue": 1}


def test_times_of_ttml_in_frames_ticks_and_of_parents():
    rates = 'xmlns:p="http://www.w3.org/ns/ttml#parameter" p:frameRate="25" p:tickRate="100"'
    body = '<p begin="00:00:01:05" dur="50t">a <span>b</span><br/>c</p><p begin="x">e</p>'
    body += '<div begin="10s"><p begin="25f" end="2s">d</p></div>'
    data = f'<tt xmlns="http://www.w3.org/ns/ttml" {rates} xml:lang="de"><body>{body}</body></tt>'.encode()
    transcript = parse_captions(data, ".ttml")
    assert transcript.captions == [[1.2, 1.7, "a b c"], [11, 12, "d"]] and transcript.language == "de"
    assert transcript.left_out == {"unreadable_cue": 1}
    for data in (b"<tt><body>", b"<html></html>", b'<!DOCTYPE x [<!ENTITY a "b">]><tt></tt>'):
        with pytest.raises(BadCaptions, match=r"XML|TTML begins|entities"):
            parse_captions(data, ".ttml")


def test_words_of_whisperx_without_times():
    text = (
        b'{"segments": [{"start": 0, "end": 3, "text": "in 2014 won", "words": [{"word": "in", "start": 0, "end": 1},'
    )
    transcript = parse_captions(text + b' {"word": "2014"}, {"word": "won", "start": 2, "end": 2.5}]}, 3]}', ".json")
    assert transcript.words == [[0, 1, "in"], [1, 2, "2014"], [2, 2.5, "won"]]
    assert transcript.left_out == {"unreadable_cue": 1}


@given(lines=transcripts(), start=st.integers(0, 900), length=st.integers(0, 900))
@FUZZ
def test_words_of_a_section_keep_their_distance_and_the_others_are_counted(lines, start, length):
    words = [[a / 1000, b / 1000, text] for line in lines for a, b, text in line]
    start_s, end_s = start / 100, (start + length) / 100
    kept, n_outside = cut_section(words, start_s, end_s)
    inside = [word for word in words if start_s <= word[0] < end_s]
    assert len(kept) + n_outside == len(words) and [word[2] for word in kept] == [word[2] for word in inside]
    assert [word[0] for word in kept] == [round(word[0] - start_s, 3) for word in inside]
    assert all(0 <= a <= b <= length / 100 + 1e-9 for a, b, _ in kept)


def test_a_line_that_begins_before_a_section_keeps_its_words_inside():
    assert cut_section([[0, 4, "a b c d"], [4, 8, "e f g h"]], 2, 6.5) == ([[0, 2, "c d"], [2, 4.5, "e f g"]], 3)
    assert cut_section([[0, 4, "a b c d"]], 2, None) == ([[0, 2, "c d"]], 2)
