"""Spoken lines lie at their steps, within their time, over the lowered original; engines are asked for in words."""

import os
import shutil
import stat
import sys
import wave
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from demo.render import rendering
from demo.render.captions import spoken_times
from demo.render.commentary import FinishedCommentary, Spoken
from demo.render.sound import ATTACK_S, LOWERED, RELEASE_S, SpeechTrack
from demo.render.speech import LOUDNESS, MOST_FASTER, RATE, SpeechLine, fitted, open_engine, spoken_lines
from demo.render.video import RenderOptions, render
from tests.test_render import add_sound, frame_times, make_flat
from utils.errors import UserError

needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
SAID = FinishedCommentary(steps=[(0.0, 1.0, "one"), (1.0, 2.0, "two words"), (4.0, 5.0, "three more words")])
SECONDS_A_WORD = 0.4
PEAK = LOUDNESS * 2**0.5  # of a tone at that root mean square


def speak(text: str, faster: float) -> np.ndarray:
    """An engine whose words are a tone of 0.4 s each, with silence before and behind them."""
    n = round(len(text.split()) * SECONDS_A_WORD * RATE / faster)
    silence = np.zeros(RATE // 5, np.float32)
    return np.concatenate([silence, np.sin(2 * np.pi * 1000 * np.arange(n) / RATE).astype(np.float32), silence])


def sound_of(path: Path) -> np.ndarray:
    """The first channel, float32 at RATE."""
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="fltp", layout="stereo", rate=RATE)
        frames = [r for frame in container.decode(audio=0) for r in resampler.resample(frame)]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def level(sound: np.ndarray, start_s: float, end_s: float) -> float:
    return float(np.sqrt(np.mean(sound[round(start_s * RATE) : round(end_s * RATE)] ** 2)))


def test_a_line_is_spoken_as_it_is_faster_or_cut_off():
    as_it_is, faster, cut = (fitted("one two", slot_s, speak) for slot_s in (1.0, 0.6, 0.3))
    assert len(as_it_is) == pytest.approx(0.8 * RATE, abs=50) and np.abs(as_it_is).max() == pytest.approx(
        PEAK, rel=0.01
    )
    assert 0.5 * RATE < len(faster) <= 0.6 * RATE and len(faster) > 0.8 * RATE / MOST_FASTER
    assert len(cut) == 0.3 * RATE and abs(cut[-1]) < 0.01 * PEAK and np.abs(cut[:-1500]).max() > 0.9 * PEAK


def test_lines_begin_at_their_steps_and_never_overlap():
    crowded = FinishedCommentary(
        steps=[(i, i + 1, "many words for a second") for i in range(5)] + [(5, 5.1, "short"), (5.1, 5.2, "!")]
    )
    lines = list(spoken_lines(spoken_times(crowded), speak))
    assert [line.start for line in lines] == [48000, 96000, 144000, 192000, 249600], (
        "a tenth of a second is too short to speak"
    )
    assert all(a.start + len(a.samples) <= b.start for a, b in pairwise(lines))
    for at, starts in (("start", [0, RATE, 4 * RATE]), ("end", [RATE, 2 * RATE, 5 * RATE])):
        lines = list(spoken_lines(spoken_times(SAID, at), speak))
        assert [line.start for line in lines] == starts
        for line, n_words in zip(lines, (1, 2, 3), strict=True):  # each its own words
            assert len(line.samples) == pytest.approx(n_words * SECONDS_A_WORD * RATE, abs=50)
    assert list(spoken_lines([Spoken(0, 1, "silent")], lambda text, faster: np.zeros(100, np.float32))) == []


def test_the_original_is_lowered_under_speech_and_comes_back():
    line = SpeechLine(RATE, np.full(RATE, 0.1, np.float32))
    original = np.full((2, 4 * RATE), 0.5, np.float32)
    mixed = SpeechTrack(iter([line])).over(original, 0)
    assert (mixed[:, : int((1 - ATTACK_S) * RATE)] == 0.5).all() and (
        mixed[:, int((2 + RELEASE_S) * RATE) + 1 :] == 0.5
    ).all()
    assert mixed[:, RATE : 2 * RATE] == pytest.approx(0.5 * LOWERED + 0.1)
    assert (np.diff(mixed[0, 2 * RATE + 1 : 3 * RATE]) >= 0).all() and (original == 0.5).all()


def test_the_mix_does_not_depend_on_blocks():
    generator = np.random.default_rng(0)
    original = generator.uniform(-0.4, 0.4, (1, 5 * RATE)).astype(np.float32)
    lines = list(spoken_lines(spoken_times(SAID), speak))
    whole = SpeechTrack(iter(lines)).over(original, 0)
    track, first, parts = SpeechTrack(iter(lines)), 0, []
    while first < original.shape[1]:
        n = int(generator.integers(1, 30000))
        parts.append(track.over(original[:, first : first + n], first))
        first += n
    assert np.array_equal(np.concatenate(parts, 1), whole)


def test_a_silent_video_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rendering, "open_engine", lambda speech, voice: speak)
    source = make_flat(tmp_path / "source.mp4", 128, (120, 200), n_frames=70)
    render(source, SAID, tmp_path / "out.mp4", RenderOptions(speech="auto"))
    sound = sound_of(tmp_path / "out.mp4")
    assert len(sound) == pytest.approx(7 * RATE, abs=2048) and len(frame_times(tmp_path / "out.mp4")) == 70
    for start_s, end_s in ((1.05, 1.35), (2.05, 2.75), (5.05, 6.15)):
        assert level(sound, start_s, end_s) == pytest.approx(LOUDNESS, rel=0.1)
    for start_s, end_s in ((0, 0.95), (1.45, 1.95), (2.85, 4.95), (6.3, 7)):
        assert level(sound, start_s, end_s) < 0.003


@pytest.mark.parametrize(("codec", "n_seconds"), [("aac", 7.0), ("pcm_s16le", 3.0)])
def test_speech_is_mixed_over_the_original(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, n_seconds: float
):
    """Also over a sound that ends before the video does."""
    monkeypatch.setattr(rendering, "open_engine", lambda speech, voice: speak)
    flat = make_flat(tmp_path / "flat.mp4", 128, (120, 200), n_frames=70)
    source = add_sound(flat, tmp_path / "source.mkv", codec, n_seconds)
    render(source, SAID, tmp_path / "out.mp4", RenderOptions(speech="auto"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
    sound, tone_level = sound_of(tmp_path / "out.mp4"), 0.3 / 2  # a mono tone on two channels
    assert len(sound) >= 7 * RATE - 2048
    assert level(sound, 0.1, 0.7) == pytest.approx(tone_level, rel=0.1)
    assert level(sound, 2.1, 2.7) == pytest.approx(np.hypot(LOUDNESS, tone_level * LOWERED), rel=0.1)
    assert level(sound, 5.1, 6.1) == pytest.approx(np.hypot(LOUDNESS, tone_level * LOWERED * (n_seconds > 5)), rel=0.1)


def test_a_missing_engine_is_said_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    source = make_flat(tmp_path / "source.mp4", 128, (120, 200), n_frames=5)
    for speech, program in (("auto", "espeak-ng"), ("espeak-ng", "espeak-ng"), ("piper", "piper")):
        with pytest.raises(UserError, match=f"--speech {speech}: {program} is not installed here; install espeak-ng"):
            render(source, SAID, tmp_path / "out.mp4", RenderOptions(speech=speech))
    assert os.listdir(tmp_path) == ["source.mp4"]


def test_piper_is_called_with_its_voice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stand-in with piper's arguments: the real one needs a voice that is not in any package."""
    sample, program, voice = tmp_path / "sample.wav", tmp_path / "piper", tmp_path / "voice.onnx"
    with wave.open(str(sample), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(22050)
        file.writeframes((8000 * np.sin(np.arange(22050) / 5)).astype("<i2").tobytes())
    program.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write(repr((sys.argv[1:5], sys.stdin.read())) + chr(10))\n"
        f"shutil.copy({str(sample)!r}, sys.argv[sys.argv.index('--output_file') + 1])\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="--voice None: no such file"):
        open_engine("piper")
    voice.touch()
    spoken = fitted("--help me", 0.8, open_engine("auto", str(voice)))
    assert len(spoken) == 0.8 * RATE
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[1] == repr((["--model", str(voice), "--length_scale", "1.000"], "--help me\n"))
    assert "'--length_scale', '0.777'" in calls[2]


def test_an_engine_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "espeak-ng"
    program.write_text("#!/bin/sh\necho no such voice >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"espeak-ng ended with 1: no such voice; check --voice"):
        open_engine("espeak-ng", "xx")


@needs_espeak
def test_espeak_speaks_within_the_time(tmp_path: Path):
    source = make_flat(tmp_path / "source.mp4", 128, (120, 200), n_frames=70)
    render(source, SAID, tmp_path / "out.mp4", RenderOptions(speech="auto"))
    sound = sound_of(tmp_path / "out.mp4")
    assert level(sound, 0, 0.95) < 0.003 < 0.03 < level(sound, 1.0, 1.4)
    assert level(sound, 2.0, 2.6) > 0.03 and level(sound, 5.0, 5.8) > 0.03


@needs_espeak
def test_espeak_reads_odd_texts_and_names_an_unknown_voice():
    engine = open_engine("espeak-ng", "en-us")
    normal, fast = (len(engine("Cyan pass it out to the right.", faster)) for faster in (1.0, 1.6))
    assert fast < 0.8 * normal
    for text in ("-v de --help", "<speak>hello</speak> & more", "🏆", "球传到右路"):
        engine(text, 1.0)
    with pytest.raises(UserError, match="espeak-ng knows no voice of that name"):
        open_engine("espeak-ng", "no-such-voice")
