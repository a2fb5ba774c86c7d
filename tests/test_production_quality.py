"""The optional quality stages on cases where the right answer is known."""

import json
import random
from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.production import near_duplicates as duplicates
from data.production.caption_offset import CaptionOffset, OffsetOptions, estimate_offset, sample_window, spread_words
from data.production.language_detect import LanguageDetect, LanguageOptions
from data.production.motion_score import MotionOptions, MotionScore
from data.production.near_duplicates import DuplicateOptions, NearDuplicates, find_duplicates, shingles
from data.production.personal_data import PersonalData, PersonalDataOptions, find_kinds
from data.production.profanity import Profanity, ProfanityOptions
from data.production.record import Record, from_line, to_line
from data.production.stage import RecordFailed, Stage, Worker
from data.production.word_times import WordTimeOptions, WordTimes, bad_words
from tests.sounds import RATE, make_sounding_video, small_whisper, speak, why_no_speech
from utils.errors import UserError

VOCABULARY = [a + b for a in ("ba", "ce", "di", "fo", "gu", "ha", "ki", "lo", "mu", "ne") for b in "rstlndgmpv"]


def clip(text: str, number: int = 0, **fields) -> Record:
    words = [[round(i * 0.4, 3), round(i * 0.4 + 0.3, 3), word] for i, word in enumerate(text.split())]
    return Record(f"v#{number:04d}", words=words, **fields)


def run(stage: Stage, *records: Record) -> list[Record]:
    """What an engine makes of records, with what is written to files in between."""
    stage.check()
    if stage.has_gather():
        stage.gathered = json.loads(json.dumps(stage.gather([records[:2], records[2:]])))
    stage.setup(Worker())
    made = [from_line(to_line(record)) for part in stage.process(list(records)) for record in part]
    for record in made:
        if record.rejection is None and stage.has_judge():
            stage.judge(record)
    return made


def reasons(records: list[Record]) -> list[str | None]:
    return [record.rejection and record.rejection.reason for record in records]


def prose(seed: int, n_words: int = 120) -> list[str]:
    return random.Random(seed).choices(VOCABULARY, k=n_words)


# Near duplicates


def test_near_duplicates_are_found_and_the_first_is_kept():
    a, b = prose(1), prose(2)
    changed, cut = list(a), a[:110]
    changed[50] = "other"
    texts = [a, b, changed, a, prose(3), cut, [], [], b]
    stage = NearDuplicates()
    records = run(stage, *(clip(" ".join(text), i) for i, text in enumerate(texts)))
    assert reasons(records) == [
        None,
        None,
        *["near_duplicate"] * 2,
        None,
        "near_duplicate",
        None,
        None,
        "near_duplicate",
    ]
    assert records[3].scores["duplicate"] == 1.0 and "v#0000" in records[5].rejection.detail
    capitals = run(NearDuplicates(), clip("Oh, what a goal! Messi."), clip("oh what a goal messi", 1))
    assert reasons(capitals) == [None, "near_duplicate"]


def test_duplicates_agree_with_exact_similarity():
    """Texts at every similarity: those well over the threshold are found, those well under it are not."""
    rng, texts = random.Random(0), []
    for i in range(60):
        text = prose(1000 + i)
        texts.append(text)
        edited = list(text)
        for place in rng.sample(range(len(text)), k=i // 2):
            edited[place] = rng.choice(VOCABULARY)
        texts.append(edited)
    with duplicates.Signatures() as signatures:
        for i, text in enumerate(texts):
            signatures.append(str(i), shingles(" ".join(text), 3))
        found = {i: (kept, similarity) for i, kept, similarity in find_duplicates(signatures.rows(), 0.7)}
    for i in range(0, len(texts), 2):
        ours, theirs = (shingles(" ".join(text), 3) for text in texts[i : i + 2])
        exact = len(ours & theirs) / len(ours | theirs)
        assert (i + 1 in found) == (exact >= 0.7) or abs(exact - 0.7) < 0.12
        if i + 1 in found:
            assert found[i + 1][0] == i and abs(found[i + 1][1] - exact) < 0.2
    assert all(i % 2 for i in found)


def test_a_thousand_equal_texts_and_one_chain():
    same = [clip("this is the same text in every clip of this channel", i) for i in range(1000)]
    gathered = NearDuplicates().gather([same])
    assert len(gathered) == 999 and {kept for kept, _ in gathered.values()} == {"v#0000"}
    assert NearDuplicates().gather([]) == {} == NearDuplicates().gather([[clip("alone here")]])
    with pytest.raises(UserError, match="min_similarity"):
        NearDuplicates(DuplicateOptions(min_similarity=1.5)).check()


# Motion


def make_frames(kind: str, n_frames: int = 50) -> list[np.ndarray]:
    """10 frames a second of 320 x 180: what is filmed, or shown."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:180, 0:320]
    slides = [rng.integers(0, 255, (9, 16, 3)).astype(np.uint8).repeat(20, 0).repeat(20, 1) for _ in range(3)]
    ground = np.stack([x * 0.7, y * 1.2, (x + y) * 0.5], -1).astype(np.uint8)
    frames = []
    for i in range(n_frames):
        frame = ground.copy()
        if kind == "slides":
            frame = slides[i * 3 // n_frames].copy()
        elif kind == "camera":
            frame = np.roll(cv2.blur(slides[0], (9, 9)), (i * 2, i * 3), (0, 1))
        elif kind == "person":
            cv2.circle(frame, (160 + round(12 * np.sin(i / 3)), 90), 30, (220, 180, 150), -1)
        elif kind == "noise":
            frame = np.clip(frame.astype(int) + rng.normal(0, 3, frame.shape), 0, 255).astype(np.uint8)
        elif kind == "clock":
            cv2.putText(frame, str(i // 10), (300, 175), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255))
        frames.append(frame)
    return frames


def write_video(path: Path, frames: list[np.ndarray], fps: int) -> Path:
    """As sites encode: lossy, with a keyframe every 2 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "28", "g": str(2 * fps), "threads": "1"})
        stream.height, stream.width = frames[0].shape[:2]
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("kind", "moves"),
    [("still", False), ("slides", False), ("noise", False), ("clock", False), ("camera", True), ("person", True)],
)
def test_motion_tells_films_from_slides(tmp_path: Path, kind: str, moves: bool):
    path = write_video(tmp_path / "clip.mp4", make_frames(kind), fps=10)
    (record,) = run(MotionScore(), Record("v", video=str(path), start_s=0.5, end_s=5.5))
    assert reasons([record]) == [None if moves else "still_picture"], record.scores
    assert record.scores["motion"] > 0.8 if moves else record.scores["motion"] < 0.25


def test_motion_of_odd_videos(tmp_path: Path):
    one = write_video(tmp_path / "one.mp4", make_frames("camera", 1), fps=10)
    for path in (str(one), str(tmp_path / "none.mp4")):
        with pytest.raises(RecordFailed) as caught:
            MotionScore().expand(Record("v", video=path))
        assert caught.value.cause == "broken_video"
    two = write_video(tmp_path / "two.mp4", make_frames("camera", 2), fps=10)
    assert run(MotionScore(), Record("v", video=str(two)))[0].scores["motion"] in (0.0, 1.0)
    with pytest.raises(UserError, match="n_moments"):
        MotionScore(MotionOptions(n_moments=0)).check()


# Caption offset


def heard(words: list[str], seed: int, shift_s: float = 0.0, wrong: float = 0.0) -> list[list]:
    """Words at a speaker's pace, some of them misheard."""
    rng, errors = random.Random(seed), random.Random(seed + 1)
    time_s, timed = 10.0, []
    for word in words:
        said = errors.choice(VOCABULARY) if errors.random() < wrong else word
        timed.append([time_s + shift_s, time_s + shift_s + 0.2, said])
        time_s += rng.uniform(0.15, 0.6)
    return timed


@pytest.mark.parametrize("shift_s", [0.0, 0.4, -2.0, 7.3, -15.0])
def test_offsets_are_found_in_spite_of_errors(shift_s: float):
    words = prose(5, 200)
    captions = heard(words, 1, shift_s)
    found = estimate_offset(captions, heard(words, 1, wrong=0.25)[60:130])
    assert found.seconds == pytest.approx(shift_s, abs=0.05) and 0.6 < found.support < 0.9


def test_captions_of_lines_and_of_other_speech():
    words = prose(6, 200)
    spoken = heard(words, 2)
    lines = [spoken[i : i + 8] for i in range(0, 200, 8)]
    split = spread_words([line[0][0] + 1.5, line[-1][1] + 1.5, " ".join(word[2] for word in line)] for line in lines)
    assert estimate_offset(split, spoken[50:120]).seconds == pytest.approx(1.5, abs=0.2)
    other = estimate_offset(heard(prose(7, 200), 3), spoken[50:120])
    assert other.support < 0.3
    assert estimate_offset(split, spoken[:3]) is None and estimate_offset([], spoken) == (0.0, 0.0)


def test_offset_stage_listens_to_the_middle_and_judges(monkeypatch):
    words = heard(prose(8, 300), 4)
    windows = []

    def listen(self, record, start_s, end_s):
        windows.append((start_s, end_s))
        return [] if record.id == "silent" else [word for word in words if start_s <= word[0] < end_s]

    monkeypatch.setattr(CaptionOffset, "listen", listen)
    monkeypatch.setattr(CaptionOffset, "setup", lambda self, worker: None)
    late = [[a + 4, b + 4, text] for a, b, text in words]
    other = [[a, b, text[::-1] + "x"] for a, b, text in words]
    made = run(
        CaptionOffset(), Record("good", words=words), Record("late", words=late), Record("other", words=other),
        Record("silent", words=words), Record("empty"),
        Record("lines", captions=[[a, b, text] for a, b, text in words], start_s=20.0, end_s=40.0),
    )  # fmt: skip
    assert reasons(made) == [None, "captions_late", "captions_of_other_speech", "no_speech", "no_words", None]
    assert made[1].scores["caption_offset"] == 4.0 and windows[-1] == (20.0, 40.0)
    assert all(b - a == pytest.approx(30) for a, b in windows[:4])
    assert sample_window([[5, 6, "a"]], Record("v"), 30.0) == (5, 6)
    with pytest.raises(UserError, match="sample_s"):
        CaptionOffset(OffsetOptions(sample_s=0)).check()


SPEECH = """The red team passes the ball across the middle. Now the blue striker runs down the left side, and shoots.
The keeper jumps and takes it with both hands. He throws it to the captain, who looks for a free player near him."""


def test_late_captions_are_found_by_ear(tmp_path: Path):
    if why_no_speech():
        pytest.skip(why_no_speech())
    sound = speak(SPEECH, tmp_path)
    video = make_sounding_video(tmp_path / "v.mp4", sound, start_s=4.0)
    seconds = len(sound) / RATE
    late = [[4.0 + 5.0, 4.0 + 5.0 + seconds, SPEECH]]
    (record,) = run(CaptionOffset(OffsetOptions(small_whisper())), Record("v", video=str(video), captions=late))
    # The sample is the captions' time, so speech from its start is out of it. An even spread is some tenths off.
    assert record.scores["caption_offset"] == pytest.approx(5.0, abs=1.0) and record.scores["caption_support"] > 0.6
    assert reasons([record]) == ["captions_late"]


# Times of words


@pytest.mark.parametrize(
    ("words", "causes"),
    [
        ([[0, 0.3, "a"], [0.4, 0.6, "b"]], {}), ([[0, 0.3, "a"], [0.2, 0.6, "b"]], {}),
        ([[0, 0.3, "a"], [0.4, 0.2, "b"]], {"backwards": [1]}),
        ([[1, 1.3, "a"], [0.4, 0.6, "b"]], {"out_of_order": [1]}),
        ([[0, 2, "a"], [0.4, 0.6, "b"]], {"overlapping": [1]}), ([[0, 4, "a"]], {"too_long": [0]}),
        ([[10, 13, "a"]], {"outside": [0]}), ([[-1, 0, "a"]], {"outside": [0]}),
        ([[i / 20, (i + 1) / 20, "a"] for i in range(11)], {"too_fast": list(range(11))}),
    ],
)  # fmt: skip
def test_bad_word_times(words: list, causes: dict):
    assert bad_words(words, WordTimeOptions(), 11.0) == causes


def test_word_times_stage():
    good = clip(" ".join(prose(1)))
    bad = clip(" ".join(prose(1)), 1)
    for word in bad.words[:20]:
        word[1] += 5
    made = run(WordTimes(), good, bad, Record("empty"))
    assert reasons(made) == [None, "bad_word_times", "no_words"]
    assert "20 too_long" in made[1].rejection.detail and "bad_word_times" not in made[0].extra


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.floats(-5, 100), st.floats(-5, 100), st.just("a")), max_size=40))
def test_sorted_words_without_overlap_are_never_out_of_order(words: list):
    ordered = sorted(words)
    sane = [(a[0], min(max(a[0], a[1]), b[0])) for a, b in pairwise(ordered)]
    bad = bad_words([(a, b, "a") for a, b in sane], WordTimeOptions())
    assert not {"backwards", "out_of_order", "overlapping"} & bad.keys()
    bad_words(words, WordTimeOptions(), 50.0)


# Language, swearing, personal data

ENGLISH = [
    "and he takes the shot from outside the box and it's in the back of the net the keeper had no chance",
    "so today I'm going to show you how to change the oil in your car first of all make sure that the engine is warm",
    "Verstappen down the inside of Hamilton into turn one and Leclerc is right behind Sainz in fourth Perez fifth",
]
OTHER = {
    "de": "und jetzt kommt die Flanke von der rechten Seite und da ist das Tor der Torwart hatte keine Chance",
    "es": "hola amigos y ahora viene el centro desde la derecha y gol gol golazo de Messi que partido señores",
    "nl": "en daar komt de voorzet van rechts en het is een doelpunt de keeper had geen kans",
    "ja": "さあここでシュートを打って決まりました素晴らしいゴールです",
}


def test_language():
    mixed = " ".join([*ENGLISH, OTHER["es"]])
    texts = [*ENGLISH, *OTHER.values(), mixed, "...", ""]
    made = run(LanguageDetect(), *(clip(text, i) for i, text in enumerate(texts)))
    assert reasons(made) == [*[None] * 3, *["other_language"] * 4, "language_unsure", "no_words", "no_words"]
    assert [record.language for record in made[:7]] == ["en"] * 3 + list(OTHER)
    german = run(LanguageDetect(LanguageOptions("de")), clip(OTHER["de"]), Record("c", captions=[[0, 3, OTHER["de"]]]))
    assert reasons(german) == [None, None]
    with pytest.raises(UserError, match="min_confidence"):
        LanguageDetect(LanguageOptions(min_confidence=90)).check()


@pytest.mark.parametrize(
    ("text", "n_found"),
    [
        ("what the fuck was that", 1), ("motherfuckers", 1), ("Bullshit. Shit!", 2), ("sh*t and f*** and [ __ ]", 3),
        ("son of a bitch", 1), ("Dick Advocaat's stroke off the cock of the walk", 0), ("Scunthorpe beat Arsenal", 0),
        ("he shot over the bar with his knob of butter", 0), ("a retarded flame front", 1),
        ("2*3 and a*b and c# minor", 0),
    ],
)  # fmt: skip
def test_profanity(text: str, n_found: int):
    (record,) = run(Profanity(), clip(text))
    assert record.scores.get("profanity", 0) == round(n_found / len(text.split()), 4)
    assert record.flags == (["profanity"] if n_found else []) and record.rejection is None


def test_profanity_can_reject_and_takes_a_list(tmp_path: Path):
    path = tmp_path / "list.txt"
    path.write_text("# mild\ndarn*\n")
    stage = Profanity(ProfanityOptions(word_list=str(path), max_share=0.0))
    assert reasons(run(stage, clip("darned shit"), clip("shit"))) == ["profanity", None]
    assert stage.fingerprint() != Profanity().fingerprint()
    path.write_text("# nothing\n")
    with pytest.raises(UserError, match="no words"):
        stage.check()


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to john.doe+x@mail.example.org now", ["email"]), ("it is john at gmail dot com", ["email"]),
        ("call 555-123-4567", ["phone"]), ("call (555) 123 4567 or +49 170 1234567", ["phone"]),
        ("my card is 4111 1111 1111 1111", ["card"]), ("IBAN DE89 3704 0044 0532 0130 00", ["bank_account"]),
        ("social 123-45-6789", ["us_social_security"]), ("I live at 12 Baker Street", ["street"]),
        ("call five five five one two three four", ["spoken_number"]),
        ("ten nine eight seven six five four three two one go", []), ("one one one one one one one one", []),
        ("he leads six four six three two one and forty fifteen", []), ("10-9 11-8 21-17 25-14 in 2021-2022", []),
        ("a record of 2.04.35 in 1 500 000 metres", []), ("meet me at the dot com bubble", []),
        ("1234 5678 9012 3456 points", []), ("the score is 3 to 2 on the road to 1000", []),
        ("2:03:59 and 8848.86 m", []),
    ],
)  # fmt: skip
def test_personal_data(text: str, kinds: list[str]):
    assert list(dict.fromkeys(find_kinds(text))) == kinds


def test_personal_data_stage_keeps_no_data():
    made = run(PersonalData(), clip("mail me@x.com"), clip("nothing", 1, title="call 555-123-4567"), clip("nothing", 2))
    assert [record.flags for record in made] == [["personal_data"], ["personal_data"], []]
    assert made[0].extra == {"personal_data": ["email"]}
    strict = PersonalData(PersonalDataOptions(reject=True))
    assert reasons(run(strict, clip("me@x.com"), clip("x"))) == ["personal_data", None]


@cache
def flag_stages() -> list[Stage]:
    stages = [Profanity(), PersonalData(), LanguageDetect(), WordTimes()]
    for stage in stages:
        stage.setup(Worker())
    return stages


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(st.text(max_size=200))
def test_flags_bear_any_text(text: str):
    record = Record("v", words=[[0, 1, word] for word in text.encode(errors="ignore").decode().split()])
    for stage in flag_stages():
        stage.process([from_line(to_line(record))])
