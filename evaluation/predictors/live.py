"""A checkpoint that watches: frames are read as they play, what is remembered is bounded, and questions are put to the
stream at their times."""

import copy
import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from data.samples.words import SILENCE
from data.video.clip import VideoError, live_frames
from data.video.frame_plan import SIZE_FACTOR
from data.video.live import TimedFrame
from evaluation.predictors.checkpoint import CheckpointPredictor
from evaluation.predictors.live_memory import LiveMemory
from evaluation.predictors.predictor_arguments import PredictorArguments
from evaluation.tasks.item import Answer, ClipPlan, Commentary, Item, MidStream
from models.streaming.options import RetentionOptions, StreamOptions
from models.streaming.session import StreamingSession, comment, new_queue, speak
from models.streaming.step_queue import StepQueue
from utils.errors import UserError
from utils.options import build_options

MAX_PIXELS = 384 * SIZE_FACTOR**2  # of a frame, as in the published runs
NO_WORDS = 1e-6  # a second


class LivePredictor(CheckpointPredictor):
    """Answers commentaries and questions in mid-stream. Memory holds a step's frames and one cache, however long a
    video is; a question has a fork of the cache."""

    def __init__(self, *arguments: Any, retention: RetentionOptions):
        super().__init__(*arguments)
        most = max(self.limits.total_pixels, self.limits.min_pixels)
        self.limits = dataclasses.replace(self.limits, max_pixels=min(self.limits.max_pixels or MAX_PIXELS, most))
        self.retention = retention
        self.settings |= {"video_limits": asdict(self.limits), "retention": asdict(retention)}

    @classmethod
    def load(cls, arguments: tuple[PredictorArguments, LiveMemory], device: str | None = None) -> "LivePredictor":
        """Load the checkpoint that a command names; device: in place of the one it names."""
        model, memory = arguments
        retention = build_options(RetentionOptions, asdict(memory))
        if model.compat and memory.cache_policy != "full":
            raise UserError(f"--compat {model.compat} keeps everything; add --cache_policy full")
        loaded = CheckpointPredictor.load(model, device)
        fingerprint = loaded.settings["fingerprint"]
        return cls(loaded.checkpoint, loaded.name, fingerprint, model.compat, loaded.limits, retention=retention)

    def answer(self, items: Sequence[Item]) -> Iterator[tuple[Item, Answer | Exception]]:
        """Watch once for all questions of one stream; comment on stretches one after the other."""
        streams: dict[tuple, list[Item]] = {}
        for item in items:
            if isinstance(item.ask, MidStream):
                streams.setdefault((item.clip.video, item.clip.start_s, item.ask.commentary), []).append(item)
            else:
                yield item, self._commented(item)
        for asked in streams.values():
            yield from self._watched(asked)

    def comment(self, item: Item) -> list[tuple[float, float, str]]:
        """Comment on a stretch: (start_s, end_s, text) of every step, in the video's time."""
        session = self.session(item.ask)
        try:
            return [(step.start_s, step.end_s, step.text) for step in comment(session, self.frames(item.clip))]
        finally:
            session.close()

    def frames(self, plan: ClipPlan) -> Iterator[TimedFrame]:
        """Frames of a stretch, 2 a second, as they play. Raises VideoError."""
        frames = live_frames(
            plan.video, limits=self.limits, start_s=plan.start_s or 0.0,
            frame_times="end32" if self.compat else "grid", float_resize=self.compat is not None,
        )  # fmt: skip
        until_s = plan.end_s
        return frames if until_s is None else itertools.takewhile(lambda timed: timed.time_s < until_s, frames)

    def session(self, ask: Commentary) -> StreamingSession:
        """A session that comments, or only watches."""
        options = StreamOptions(
            query=ask.query,
            max_new_tokens=1 if ask.is_silent else ask.max_new_tokens,
            repetition_penalty=ask.repetition_penalty,
            words_per_second=NO_WORDS if ask.is_silent else None,
            retention=self.retention,
            compat=self.compat,
        )
        return StreamingSession(self.checkpoint, options)

    def _commented(self, item: Item) -> Answer | Exception:
        started = time.perf_counter()
        try:
            steps = self.comment(item)
        except VideoError as error:
            return error
        said = " ".join(text.removesuffix(SILENCE).strip() for _, _, text in steps).strip()
        return Answer(said, steps=steps, seconds=round(time.perf_counter() - started, 4))

    def _watched(self, items: Sequence[Item]) -> Iterator[tuple[Item, Answer | Exception]]:
        """Questions to one stream, each at its time: it has seen all frames before that, and none after it."""
        left = sorted(items, key=lambda item: item.clip.end_s)
        session = self.session(left[0].ask.commentary)
        queue = new_queue(session, None, time.monotonic)
        try:
            for timed in self.frames(dataclasses.replace(left[0].clip, end_s=left[-1].clip.end_s)):
                while left and left[0].clip.end_s <= timed.time_s:
                    item = left.pop(0)
                    yield item, self._asked(session, queue, item.ask)
                queue.push(timed.time_s, timed.frame)
                while taken := queue.take():
                    speak(session, taken, queue.now)
            for item in list(left):
                left.pop(0)
                yield item, self._asked(session, queue, item.ask)
        except VideoError as error:
            yield from ((item, error) for item in left)
        finally:
            session.close()

    def _asked(self, session: StreamingSession, queue: StepQueue, ask: MidStream) -> Answer:
        """Answer on a fork, which sees the frames that fill no step yet first; the stream goes on without it."""
        started = time.perf_counter()
        fork, rest = session.fork(), copy.deepcopy(queue)
        try:
            rest.end()
            while taken := rest.take():
                speak(fork, taken, rest.now)
            fork.options = dataclasses.replace(
                fork.options, max_answer_tokens=ask.max_new_tokens, remember_questions=True
            )
            said = "".join(fork.ask(ask.text)).strip()
        finally:
            fork.close()
        return Answer(said, seconds=round(time.perf_counter() - started, 4))
