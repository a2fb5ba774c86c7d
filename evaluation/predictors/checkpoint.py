"""A Qwen2-VL checkpoint as a predictor: a clip is decoded, encoded and prefilled once for all that is asked of it."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Literal

import torch
from torch import Tensor

from data.samples.conversation import Turn, VisualBlock
from data.samples.words import SILENCE
from data.video.clip import VideoError, VideoFile
from data.video.frame_plan import Clip, VideoLimits
from evaluation.predictors.open_video import OpenVideo, read_plan
from evaluation.predictors.option_scores import option_values
from evaluation.predictors.polling import poll
from evaluation.predictors.predictor_arguments import PredictorArguments, model_id
from evaluation.scoring.protocol import OURS, Origin
from evaluation.tasks.item import Answer, Choice, ClipPlan, Commentary, Item, MidStream, Polled, Written, group_by_clip
from models.load import Checkpoint, load_checkpoint
from models.streaming.options import RetentionOptions, StreamOptions
from models.streaming.prefix import PrefixReader
from models.streaming.requests import VisionRequest
from models.streaming.session import StreamingSession, comment, timed_frames
from models.streaming.threads import use_threads
from utils.fingerprint import checkpoint_fingerprint


class CheckpointPredictor:
    """Answers choices, written answers, commentaries and questions in mid-stream with one model.

    fingerprint: of the checkpoint's files (utils/fingerprint.py). limits: in place of the checkpoint's own.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        name: str,
        fingerprint: str,
        compat: Literal["livecc"] | None = None,
        limits: VideoLimits | None = None,
    ):
        self.checkpoint, self.name, self.compat = checkpoint, name, compat
        self.limits = limits or checkpoint.limits
        self.own_parts: dict[str, Origin] = {"frames": OURS} if self.limits != checkpoint.limits else {}
        self.settings = {
            "fingerprint": fingerprint,
            "position_mode": checkpoint.position_mode,
            "dtype": str(checkpoint.model.dtype).removeprefix("torch."),
            "video_limits": asdict(self.limits),
            "compat": compat,
        }

    @classmethod
    def load(cls, arguments: PredictorArguments, device: str | None = None) -> "CheckpointPredictor":
        """Load the checkpoint that a command names; device: in place of the one it names."""
        checkpoint = load_checkpoint(
            arguments.model_name_or_path,
            device=device or arguments.device,
            dtype=arguments.dtype,
            position_mode=arguments.position_mode,
        )
        use_threads(checkpoint.model)
        fingerprint = checkpoint_fingerprint(checkpoint.folder)
        limits = arguments.limits(checkpoint.limits)
        return cls(checkpoint, model_id(arguments.model_name_or_path), fingerprint, arguments.compat, limits)

    def answer(self, items: Sequence[Item]) -> Iterator[tuple[Item, Answer | Exception]]:
        """Answer items of one video. Memory holds one clip at a time, however many are asked about."""
        with OpenVideo() as opened:
            polled = [item for item in items if isinstance(item.ask, Polled)]
            for item in polled:
                yield item, self._poll(opened, item)
            rest = [item for item in items if not isinstance(item.ask, Polled)]
            for plan, asked in group_by_clip(rest).items():
                started = time.perf_counter()
                try:
                    clip = self.read(plan, opened.of(plan))
                except VideoError as error:
                    yield from ((item, error) for item in asked)
                    continue
                for item, answer in self._answers(clip, asked):
                    seconds, started = time.perf_counter() - started, time.perf_counter()
                    yield item, dataclasses.replace(answer, seconds=round(seconds, 4))

    def _poll(self, opened: OpenVideo, item: Item) -> Answer | Exception:
        def write(plan: ClipPlan, ask: Written) -> str:
            block, features = self.encode(self.read(plan, opened.of(plan)))
            reader = PrefixReader(self.checkpoint, block, features)
            return self._reply(reader, self.prompt_ids(ask, block), ask).response

        try:
            return poll(item.clip, item.ask, write)
        except VideoError as error:
            return error

    def read(self, plan: ClipPlan, video: VideoFile | None) -> Clip:
        """The frames of a plan; video: its file, open, or None for a folder. Raises VideoError."""
        return read_plan(plan, video, self.limits, float_resize=self.compat is not None)

    def _answers(self, clip: Clip, items: Sequence[Item]) -> Iterator[tuple[Item, Answer]]:
        """Answers about one clip: what is streamed, then the rest over one prefix."""
        yield from self._streamed(clip, [item for item in items if isinstance(item.ask, Commentary | MidStream)])
        rest = [item for item in items if isinstance(item.ask, Choice | Written)]
        if not rest:
            return
        block, features = self.encode(clip)
        reader = PrefixReader(self.checkpoint, block, features)
        # In the order of their ids, neighbours have the longest beginnings in common: the video, then subtitles.
        for ids, item in sorted(((self.prompt_ids(item.ask, block), item) for item in rest), key=lambda pair: pair[0]):
            yield item, self._reply(reader, ids, item.ask)

    def encode(self, clip: Clip) -> tuple[VisualBlock, Tensor]:
        """A clip as the model's block and features."""
        return self.checkpoint.batch.execute([VisionRequest(clip.frames, clip.plan.frame_s)])[0]

    def prompt_ids(self, ask: Choice | Written, block: VisualBlock) -> list[int]:
        """System turn, the clip and the question, and how the answer begins."""
        chat = self.checkpoint.chat
        prefix = chat.text_ids(ask.prefix) if ask.prefix else []
        return [
            *chat.system_ids(),
            *chat.turn_ids(Turn("user", [block, ask.text])),
            *chat.header_ids("assistant"),
            *prefix,
        ]

    def _reply(self, reader: PrefixReader, ids: list[int], ask: Choice | Written) -> Answer:
        if isinstance(ask, Written):
            return Answer(self.checkpoint.chat.decode(reader.write(ids, ask.max_new_tokens)).strip())
        tokens = [self.checkpoint.chat.text_ids(f" {o}" if ask.spaced else o) for o in ask.options]
        values = option_scores(reader, ids, tokens)
        scores = {option: round(value, 6) for option, value in zip(ask.options, values, strict=True)}
        return Answer(max(scores, key=scores.get), logits=scores)

    def _streamed(self, clip: Clip, items: Sequence[Item]) -> Iterator[tuple[Item, Answer]]:
        """Commentaries, and questions at their ends; those on the same commentary share it."""
        by_commentary: dict[Commentary, list[Item]] = {}
        for item in items:
            commentary = item.ask.commentary if isinstance(item.ask, MidStream) else item.ask
            by_commentary.setdefault(commentary, []).append(item)
        for commentary, asked in by_commentary.items():
            session = self._session(commentary)
            source = timed_frames(clip.frames, float(clip.times_s[0]))
            steps = [(step.start_s, step.end_s, step.text) for step in comment(session, source)]
            said = " ".join(text.removesuffix(SILENCE).strip() for _, _, text in steps).strip() + SILENCE.strip()
            for item in asked:
                if isinstance(item.ask, MidStream):
                    session.options = dataclasses.replace(session.options, max_answer_tokens=item.ask.max_new_tokens)
                    yield item, Answer("".join(session.ask(item.ask.text)).strip())
                else:
                    yield item, Answer(said, steps=steps)
            session.close()

    def _session(self, commentary: Commentary) -> StreamingSession:
        options = StreamOptions(
            query=commentary.query,
            max_new_tokens=commentary.max_new_tokens,
            repetition_penalty=commentary.repetition_penalty,
            retention=RetentionOptions(cache_policy="full"),
            compat=self.compat,
        )
        return StreamingSession(self.checkpoint, options)


@torch.inference_mode()
def option_scores(reader: PrefixReader, ids: list[int], options: Sequence[list[int]]) -> list[float]:
    """Logits of options of one token each; log-likelihoods where one has more."""
    return option_values(lambda said: reader.logits([*ids, *said]), options)
