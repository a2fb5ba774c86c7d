"""Base of the captioners: clips are read one after the other, and each is written about as asked."""

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from data.video.clip import VideoError
from data.video.frame_plan import Clip, VideoLimits
from evaluation.predictors.open_video import OpenVideo
from evaluation.tasks.item import Answer, Item, Written, group_by_clip


class ClipWriter(ABC):
    """Answers the items of one video at a time.

    max_frames: a limit below that of `limits`. A subclass says how (`write`), and which errors are one item's own.
    """

    own_errors: tuple[type[Exception], ...] = ()

    def __init__(self, name: str, limits: VideoLimits, max_frames: int | None = None):
        self.name = name
        if max_frames is not None:
            limits = dataclasses.replace(limits, max_frames=min(limits.max_frames, max_frames))
        self.limits = limits

    @abstractmethod
    def write(self, clip: Clip, ask: Written) -> str:
        """Write about the clip, as asked."""

    def answer(self, items: Sequence[Item]) -> Iterator[tuple[Item, Answer | Exception]]:
        """Answer items of one video; memory holds one clip at a time."""
        with OpenVideo() as opened:
            for plan, asked in group_by_clip(items).items():
                try:
                    clip = opened.of(plan).clip(
                        plan.start_s, plan.end_s, limits=self.limits, rule=plan.rule, frame_times=plan.frame_times
                    )
                except VideoError as error:
                    yield from ((item, error) for item in asked)
                    continue
                for item in asked:
                    yield item, self._answer(clip, item.ask)

    def _answer(self, clip: Clip, ask: Written) -> Answer | Exception:
        started = time.perf_counter()
        try:
            response = self.write(clip, ask)
        except self.own_errors as error:
            return error
        return Answer(response, seconds=round(time.perf_counter() - started, 4))
