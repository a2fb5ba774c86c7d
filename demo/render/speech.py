"""A commentary spoken by an offline engine: each line at its step, never over the next one.

A line that takes too long is spoken up to MOST_FASTER times as fast; what is still too long is cut off where the next
line begins. Engines: espeak-ng (any machine, robotic) and piper (a neural voice; needs its .onnx file).
"""

import io
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np

from demo.render.commentary import Spoken
from utils.errors import UserError

RATE = 48000  # samples a second of everything that is mixed
MOST_FASTER = 1.7
ESPEAK_WORDS_PER_MINUTE = 175  # its own pace
LEAST_SLOT_S = 0.15
FADE_S = 0.03
QUIET = 0.005  # of full scale: what an engine leaves before and behind the words
LOUDNESS, PEAK = 0.13, 0.9  # root mean square and highest sample of a line
TIMEOUT_S = 60

Speech = Literal["none", "auto", "espeak-ng", "piper"]
Speak = Callable[[str, float], np.ndarray]  # (text, how many times as fast) -> float32 [n] at RATE

INSTALL = (
    "install espeak-ng (Debian, Ubuntu: apt-get install espeak-ng; macOS: brew install espeak-ng; Windows: "
    "github.com/espeak-ng/espeak-ng/releases), or piper (pip install piper-tts) with a voice: --voice FILE.onnx"
)


class SpeechLine(NamedTuple):
    """A spoken line: its first sample on the video's clock, and float32 [n] at RATE."""

    start: int
    samples: np.ndarray


def open_engine(speech: Speech, voice: str | None = None) -> Speak:
    """The engine that is meant. Raises UserError where it is not installed or does not know the voice."""
    wants_piper = speech == "piper" or (speech == "auto" and voice is not None and voice.endswith(".onnx"))
    name = "piper" if wants_piper else "espeak-ng"
    program = shutil.which(name)
    if program is None:
        raise UserError(f"--speech {speech}: {name} is not installed here; {INSTALL}")
    if not wants_piper:
        speak = _espeak(program, voice or "en")
    elif voice is None or not Path(voice).is_file():
        raise UserError(f"--speech piper: --voice {voice}: no such file; give a voice of piper, a file NAME.onnx")
    else:
        speak = _piper(program, voice)
    speak("one", 1.0)  # an unknown voice is said before the video is begun
    return speak


def spoken_lines(steps: Sequence[Spoken], speak: Speak) -> Iterator[SpeechLine]:
    """The lines in order, each made when it is asked for. steps: a text, when it begins and when the next one does."""
    for start_s, end_s, text in steps:
        if end_s - start_s >= LEAST_SLOT_S:
            samples = fitted(text, end_s - start_s, speak)
            if len(samples):
                yield SpeechLine(round(start_s * RATE), samples)


def fitted(text: str, slot_s: float, speak: Speak) -> np.ndarray:
    """A text spoken within slot_s seconds: as it is, faster, or faster and cut off with a short fade."""
    samples, slot = _levelled(speak(text, 1.0)), int(slot_s * RATE)
    if len(samples) > slot:
        samples = _levelled(speak(text, min(MOST_FASTER, len(samples) / slot * 1.03)))
    if len(samples) > slot:
        n_fade = min(round(FADE_S * RATE), slot)
        samples = samples[:slot].copy()
        samples[slot - n_fade :] *= np.linspace(1, 0, n_fade, dtype=np.float32)
    return samples


def _levelled(samples: np.ndarray) -> np.ndarray:
    """Without silence at its ends, as loud as other lines."""
    loud = np.flatnonzero(np.abs(samples) > QUIET)
    if not len(loud):
        return samples[:0]
    samples = samples[loud[0] : loud[-1] + 1]
    level = float(np.sqrt(np.mean(samples**2)))
    return samples * np.float32(min(LOUDNESS / level, PEAK / float(np.abs(samples).max())))


def _espeak(program: str, voice: str) -> Speak:
    known = subprocess.run([program, "--voices"], capture_output=True, timeout=TIMEOUT_S)
    names = re.split(r"[\s()]+", known.stdout.decode(errors="replace").lower())
    if known.returncode == 0 and voice.partition("+")[0].lower() not in names:  # it would speak English without a word
        raise UserError(f"--voice {voice}: espeak-ng knows no voice of that name; `espeak-ng --voices` lists them")

    def speak(text: str, faster: float) -> np.ndarray:
        pace = str(round(ESPEAK_WORDS_PER_MINUTE * faster))
        return _run([program, "-v", voice, "-s", pace, "--stdin", "-w"], text)

    return speak


def _piper(program: str, voice: str) -> Speak:
    def speak(text: str, faster: float) -> np.ndarray:
        return _run([program, "--model", voice, "--length_scale", f"{1 / faster:.3f}", "--output_file"], text)

    return speak


def _run(command: list[str], text: str) -> np.ndarray:
    """Samples of the WAV file that a command writes, whose name goes last; the text goes to its standard input."""
    with tempfile.TemporaryDirectory(prefix="speech-") as folder:
        path = Path(folder) / "line.wav"
        try:
            done = subprocess.run(
                [*command, str(path)], input=text.encode() + b"\n", capture_output=True, timeout=TIMEOUT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{command[0]} cannot be run: {error}; try another --speech, or none") from error
        if done.returncode or not path.is_file():
            said = done.stderr.decode(errors="replace").strip()[-300:]
            raise UserError(f"{command[0]} ended with {done.returncode}: {said}; check --voice, or use --speech none")
        return decode_sound(path.read_bytes())


def decode_sound(data: bytes) -> np.ndarray:
    """Decode a sound file: float32 [n], one channel at RATE."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(io.BytesIO(data)) as container:
        if not container.streams.audio:
            return np.zeros(0, np.float32)
        frames = [r for frame in container.decode(audio=0) for r in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames] or [np.zeros(0, np.float32)])
