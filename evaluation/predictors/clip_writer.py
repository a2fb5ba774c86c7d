"""Base of models that see a clip as a whole: clips are read one after the other, and each is asked about."""

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from data.video.clip import VideoError
from data.video.frame_plan import Clip, VideoLimits
from evaluation.predictors.open_video import OpenVideo, read_plan
from evaluation.predictors.polling import poll
from evaluation.scoring.protocol import Origin
from evaluation.tasks.item import Answer, Choice, ClipPlan, Item, Polled, Written, group_by_clip
from evaluation.tasks.reading import named_option

CHOICE_TOKENS = 16  # of an answer that names an option


class ClipWriter(ABC):
    """Answers the items of one video at a time.

    max_frames: a limit below that of `limits`. own_parts: of a benchmark's protocol. A subclass says how (`write`, and
    `choose`), and which errors are one item's own.
    """

    own_errors: tuple[type[Exception], ...] = ()

    def __init__(
        self, name: str, limits: VideoLimits, max_frames: int | None = None, own_parts: dict[str, Origin] | None = None
    ):
        self.name, self.own_parts = name, own_parts or {}
        if max_frames is not None:
            limits = dataclasses.replace(limits, max_frames=min(limits.max_frames, max_frames))
        self.limits = limits

    @abstractmethod
    def write(self, clip: Clip, ask: Written) -> str:
        """Write about the clip, as asked."""

    def choose(self, clip: Clip, ask: Choice) -> Answer:
        """Pick one of the options, by what is written; a model that gives logits has a better way."""
        said = self.write(clip, Written(f"{ask.text}\n{ask.prefix}".strip(), CHOICE_TOKENS))
        return Answer(named_option(said, ask.options) or said)

    def answer(self, items: Sequence[Item]) -> Iterator[tuple[Item, Answer | Exception]]:
        """Answer items of one video; memory holds one clip at a time."""
        with OpenVideo() as opened:
            polled = [item for item in items if isinstance(item.ask, Polled)]
            for item in polled:
                yield item, self._poll(opened, item)
            rest = [item for item in items if not isinstance(item.ask, Polled)]
            for plan, asked in group_by_clip(rest).items():
                try:
                    clip = read_plan(plan, opened.of(plan), self.limits)
                except VideoError as error:
                    yield from ((item, error) for item in asked)
                    continue
                for item in asked:
                    yield item, self._answer(clip, item.ask)

    def _poll(self, opened: OpenVideo, item: Item) -> Answer | Exception:
        def write(plan: ClipPlan, ask: Written) -> str:
            return self.write(read_plan(plan, opened.of(plan), self.limits), ask)

        try:
            return poll(item.clip, item.ask, write)
        except (VideoError, *self.own_errors) as error:
            return error

    def _answer(self, clip: Clip, ask: Written | Choice) -> Answer | Exception:
        started = time.perf_counter()
        try:
            answer = self.choose(clip, ask) if isinstance(ask, Choice) else Answer(self.write(clip, ask))
        except self.own_errors as error:
            return error
        return dataclasses.replace(answer, seconds=round(time.perf_counter() - started, 4))
