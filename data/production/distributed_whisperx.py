"""Speech of videos -> words with times, by a Whisper model in faster-whisper (CTranslate2).

    python -m data.production.distributed_whisperx videos.jsonl words.jsonl

Speech is found first (Silero's voice activity detection), cut into stretches of up to 30 s that are read in batches,
and each word gets its times from the model's cross-attention. No chance is involved: beam search at temperature 0,
without the retries at higher ones, which draw at random. A video without sound, or without speech, is rejected.

The published stage is called after whisperX, whose batching over detected speech this is; its aligner is not used.
Hardware: one GPU per worker, or 4 CPU cores. Time: dev/benchmarks/production.md has what was measured.
"""

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.model_files import local_model, model_fingerprint
from data.production.record import Record
from data.production.stage import RecordFailed, Stage, Worker
from data.production.whisper import load_whisper
from data.video.container import VideoError
from data.video.sound import RATE, read_sound
from utils.errors import UserError

SHORTEST_S = 0.1  # sound below it is none


@dataclass
class WhisperOptions:
    """Which model, and how it listens."""

    model: str = field(
        default="large-v3-turbo", metadata={"help": "Whisper for faster-whisper: its name, a hub id, or a folder"}
    )
    language: str = field(default="", metadata={"help": "code of the speech, such as en; default: detected per video"})
    beam_size: int = field(default=5, metadata={"help": "beams of the search; 1 is greedy and faster", "ge": 1})
    speech_threshold: float = field(
        default=0.5, metadata={"help": "probability over which the detector takes sound for speech"}
    )
    stretches: int = field(default=16, metadata={"help": "stretches of up to 30 s that a GPU reads at once", "ge": 1})
    compute_type: str = field(
        default="default", metadata={"help": "CTranslate2's number format: int8, float16, float32; default: the file's"}
    )


class Whisper(Stage):
    """Sets a video's words, its language, and scores["asr_confidence"], the mean probability of its words."""

    name, version, Options = "distributed_whisperx", 1, WhisperOptions
    batch_size, gpus, cpus = 8, 1.0, 4

    def check(self) -> None:
        if self.options.beam_size < 1 or self.options.stretches < 1:
            raise UserError("--beam_size and --stretches must be at least 1")
        local_model(self.options.model)

    def fingerprint(self) -> str:
        return model_fingerprint(self.options.model)

    def setup(self, worker: Worker) -> None:
        from faster_whisper import BatchedInferencePipeline

        model = load_whisper(self.options.model, worker, self.options.compute_type)
        self._pipeline = BatchedInferencePipeline(model)

    def expand(self, record: Record) -> list[Record]:
        try:
            sound = read_sound(record.video, rate=RATE)
        except VideoError as error:
            raise RecordFailed("broken_video", str(error)) from error
        if sound is None:
            return [record.reject(self.name, "no_sound", f"{record.video} has no sound that can be decoded")]
        segments, info = self._listen(sound) if len(sound) > SHORTEST_S * RATE else ([], None)
        words = [word for segment in segments for word in segment.words or ()]
        record.words = timed_words(words)
        if not record.words:
            return [record.reject(self.name, "no_speech", f"none found in {len(sound) / RATE:.1f} s of sound")]
        record.language = info.language
        record.scores["asr_confidence"] = round(math.fsum(word.probability for word in words) / len(words), 3)
        return [record]

    def teardown(self) -> None:
        self._pipeline = None

    def _listen(self, sound: Any) -> tuple[Any, Any]:
        return self._pipeline.transcribe(
            sound,
            language=self.options.language or None,
            beam_size=self.options.beam_size,
            batch_size=self.options.stretches,
            temperature=0.0,
            word_timestamps=True,
            vad_filter=True,
            vad_parameters={"threshold": self.options.speech_threshold},
        )


def timed_words(words: list[Any]) -> list[tuple[float, float, str]]:
    """Whisper's words, in the order of their start: its alignment may put a word a little before the one it follows."""
    timed: list[tuple[float, float, str]] = []
    for word in words:
        text = " ".join(word.word.split())
        if text:
            start_s = max(float(word.start), timed[-1][0] if timed else 0.0)
            timed.append((round(start_s, 2), round(max(float(word.end), start_s), 2), text))
    return timed


STAGE = Whisper

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
