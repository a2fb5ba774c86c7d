"""A checkpoint that comments on games of hours: frames are read as they play, and what is remembered is bounded."""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data.samples.words import SILENCE
from data.video.clip import VideoError, live_frames
from data.video.frame_plan import SIZE_FACTOR
from evaluation.predictors.checkpoint import CheckpointPredictor
from evaluation.predictors.predictor_arguments import PredictorArguments
from evaluation.tasks.item import Answer, Item
from models.streaming.options import CachePolicy, RetentionOptions, StreamOptions
from models.streaming.session import StreamingSession, comment
from utils.arguments import helped
from utils.errors import UserError
from utils.options import build_options, flags_of

MAX_PIXELS = 384 * SIZE_FACTOR**2  # of a frame, as in the published runs


@dataclass
class GameMemory(flags_of(RetentionOptions)):
    """What the model remembers of a game."""

    cache_policy: CachePolicy = helped(
        "window", "window (bounded for ever), reprefill (text; frames are dropped) or full (everything)"
    )


class GamePredictor(CheckpointPredictor):
    """Answers commentaries alone. Memory holds one frame and one cache, however long the game is."""

    def __init__(self, *arguments: Any, retention: RetentionOptions):
        super().__init__(*arguments)
        limits = self.checkpoint.limits
        most = max(limits.total_pixels, limits.min_pixels)
        self.limits = dataclasses.replace(limits, max_pixels=min(MAX_PIXELS, most))
        self.retention = retention
        self.settings |= {"video_limits": asdict(self.limits), "retention": asdict(retention)}

    @classmethod
    def load(cls, arguments: tuple[PredictorArguments, GameMemory], device: str | None = None) -> "GamePredictor":
        """Load the checkpoint that a command names; device: in place of the one it names."""
        model, memory = arguments
        retention = build_options(RetentionOptions, asdict(memory))
        if model.compat and memory.cache_policy != "full":
            raise UserError(f"--compat {model.compat} keeps everything; add --cache_policy full")
        loaded = CheckpointPredictor.load(model, device)
        fingerprint = loaded.settings["fingerprint"]
        return cls(loaded.checkpoint, loaded.name, fingerprint, model.compat, retention=retention)

    def answer(self, items: Sequence[Item]) -> Iterator[tuple[Item, Answer | Exception]]:
        """Comment on stretches of one game, one after the other."""
        for item in items:
            started = time.perf_counter()
            try:
                steps = self.comment(item)
            except VideoError as error:
                yield item, error
                continue
            said = " ".join(text.removesuffix(SILENCE).strip() for _, _, text in steps).strip()
            yield item, Answer(said, steps=steps, seconds=round(time.perf_counter() - started, 4))

    def comment(self, item: Item) -> list[tuple[float, float, str]]:
        """Comment on a stretch: (start_s, end_s, text) of every step, in the video's time."""
        plan, ask = item.clip, item.ask
        frames = live_frames(
            plan.video, limits=self.limits, start_s=plan.start_s or 0.0,
            frame_times="end32" if self.compat else "grid", float_resize=self.compat is not None,
        )  # fmt: skip
        until_s = plan.end_s
        if until_s is not None:
            frames = itertools.takewhile(lambda timed: timed.time_s < until_s, frames)
        options = StreamOptions(
            query=ask.query,
            max_new_tokens=ask.max_new_tokens,
            repetition_penalty=ask.repetition_penalty,
            retention=self.retention,
            compat=self.compat,
        )
        session = StreamingSession(self.checkpoint, options)
        try:
            return [(step.start_s, step.end_s, step.text) for step in comment(session, frames)]
        finally:
            session.close()
