"""Sound on the video's own clock, and speech recognised with a time for every word."""

from types import SimpleNamespace

import numpy as np
import pytest

from data.production.distributed_whisperx import Whisper, WhisperOptions, timed_words
from data.production.record import Record
from data.production.stage import RecordFailed, Worker
from data.video.container import VideoError
from data.video.sound import read_sound
from tests.sounds import RATE, make_sounding_video, onsets_s, small_whisper, speak, ticks, why_no_speech
from utils.errors import UserError

SAID = "The red team passes the ball across the middle. Now the blue striker runs down the left side, and shoots."
SPOKEN_AT_S = 4.0


@pytest.fixture(scope="module")
def listener():
    """The stage with the packaged Whisper."""
    if why_no_speech():
        pytest.skip(why_no_speech())
    stage = Whisper(WhisperOptions(small_whisper()))
    stage.check()
    stage.setup(Worker())
    yield stage
    stage.teardown()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(
    "odd, expected",
    [({}, [0, 1, 2, 3, 4]), ({"start_s": 1.5}, [1.5, 2.5, 3.5, 4.5, 5.5]), ({"gap_s": (1.5, 2.5)}, [0, 1, 3, 4])],
    ids=["plain", "late", "gap"],
)
def test_sound_is_on_the_videos_clock(tmp_path, name, odd, expected):
    path = make_sounding_video(tmp_path / name, ticks(5), **odd)
    assert onsets_s(read_sound(path)) == pytest.approx(expected, abs=0.003)
    window = read_sound(path, 2.25, 4.75)
    assert len(window) == 2.5 * RATE
    assert onsets_s(window) == pytest.approx([at - 2.25 for at in expected if 2.25 <= at < 4.75], abs=0.003)


def test_sound_that_is_not_there(tmp_path):
    path = make_sounding_video(tmp_path / "short.mp4", ticks(2), seconds=6)
    after = read_sound(path, 4.0, 5.0)
    assert len(after) == RATE and not after.any()
    assert read_sound(make_sounding_video(tmp_path / "silent.mp4", None, seconds=2)) is None
    with pytest.raises(VideoError, match="no such file"):
        read_sound(tmp_path / "none.mp4")


def test_words_stay_in_order():
    heard = [(" So ", 1.0, 1.2), ("goes", 0.9, 1.1), ("", 1.2, 1.3), (" on.", 1.333, 1.3)]
    words = [SimpleNamespace(word=word, start=np.float64(a), end=np.float64(b)) for word, a, b in heard]
    assert timed_words(words) == [(1.0, 1.2, "So"), (1.0, 1.1, "goes"), (1.33, 1.33, "on.")]


class TickListener:
    """In the recogniser's place: a word for each tick that is heard, in segments as faster-whisper gives them."""

    def transcribe(self, sound: np.ndarray, **options):
        assert options["word_timestamps"] and options["vad_filter"] and options["temperature"] == 0
        words = [
            SimpleNamespace(word=f" tick{i}", start=at, end=at + 0.1, probability=0.5 + i / 10)
            for i, at in enumerate(onsets_s(sound))
        ]
        segments = [SimpleNamespace(start=part[0].start, words=part) for part in (words[:2], words[2:])]
        return iter([SimpleNamespace(start=0.0, words=None), *segments]), SimpleNamespace(language="de")


def test_words_have_the_times_of_the_video_whatever_stretches_are_read(tmp_path):
    path = make_sounding_video(tmp_path / "Fußball.mkv", ticks(5), start_s=1.5)
    stage = Whisper()
    stage._pipeline = TickListener()
    (record,) = stage.expand(Record("a", video=str(path)))
    assert [word[2] for word in record.words] == ["tick0", "tick1", "tick2", "tick3", "tick4"]
    assert [word[0] for word in record.words] == pytest.approx([1.5, 2.5, 3.5, 4.5, 5.5], abs=0.011)
    assert [end_s - start_s for start_s, end_s, _ in record.words] == pytest.approx([0.1] * 5, abs=0.011)
    assert record.language == "de" and record.scores == {"asr_confidence": 0.7}


def test_options_and_models_that_cannot_work(tmp_path):
    with pytest.raises(UserError, match="no such model"):
        Whisper(WhisperOptions("./no/such/folder")).check()
    with pytest.raises(UserError, match="at least 1"):
        Whisper(WhisperOptions(beam_size=0)).check()
    with pytest.raises(UserError, match="no Whisper model"):
        Whisper(WhisperOptions(str(tmp_path))).setup(Worker())


def test_a_video_without_sound_is_rejected_and_a_broken_one_fails(tmp_path):
    path = make_sounding_video(tmp_path / "silent.mp4", None, seconds=2)
    (record,) = Whisper().expand(Record("a", video=str(path)))
    assert record.rejection.reason == "no_sound" and not record.rejection.failed
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    with pytest.raises(RecordFailed) as failure:
        Whisper().expand(Record("b", video=str(tmp_path / "broken.mp4")))
    assert failure.value.cause == "broken_video"


def test_speech_becomes_words_with_times(listener, tmp_path):
    sound = speak(SAID, tmp_path)
    path = make_sounding_video(tmp_path / "said.mp4", sound, start_s=SPOKEN_AT_S)
    first, again = (listener.process([Record("a", video=str(path))])[0][0] for _ in range(2))
    assert first == again
    assert first.rejection is None and first.language == "en" and 0.5 < first.scores["asr_confidence"] <= 1
    said, heard = (set(text.lower().replace(",", "").replace(".", "").split()) for text in (SAID, first.text))
    assert len(said & heard) >= 0.8 * len(said)
    starts = [start_s for start_s, _, _ in first.words]
    assert starts == sorted(starts) and all(start_s <= end_s for start_s, end_s, _ in first.words)
    # Detected speech is widened by 0.4 s; the words are spread over all of it.
    assert SPOKEN_AT_S - 0.5 <= starts[0] <= SPOKEN_AT_S + 0.3
    assert abs(first.words[-1][1] - (SPOKEN_AT_S + len(sound) / RATE)) < 1.0


def test_sound_without_speech_is_rejected(listener, tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.001, 5 * RATE).astype(np.float32)
    (record,) = listener.expand(Record("a", video=str(make_sounding_video(tmp_path / "noise.mp4", noise))))
    assert record.rejection.reason == "no_speech" and not record.words
