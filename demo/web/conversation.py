"""Conversation about a whole video, beside the commentary: a stream of its own that only answers."""

import time
from collections.abc import Callable
from dataclasses import replace

from data.video.clip import read_clip
from data.video.frame_plan import Clip
from demo.live.api_error import RETRY_S, ApiError
from demo.web.questions import Questions
from demo.web.settings import conversation_options
from demo.web.videos import Video
from models.streaming.engine import Engine, EngineFull

MAX_WAITING = 2
MAX_QUESTIONS = 20  # all of them are remembered; then the video is looked at anew
LEAST_FRAMES, MOST_FRAMES = 16, 128  # of the clip


class Conversation:
    """Questions to one video, the tab's conversation `number`; `tell` takes the engine's records, in its thread."""

    def __init__(self, number: int, engine: Engine, video: Video, tell: Callable[["Conversation", dict], None]):
        self.video, self._engine = video, engine
        self.questions = Questions(f"whole{number}")
        self.used_s = time.monotonic()
        try:
            self.stream = engine.open(lambda record: tell(self, record), conversation_options(), realtime=False)
        except EngineFull:
            raise ApiError(
                503, "the model has no time for another conversation now", next_step="try again in a moment",
                retry_s=RETRY_S,
            ) from None  # fmt: skip

    @property
    def is_full(self) -> bool:
        """Whether it remembers as much as it may, and the next question needs another one."""
        return len(self.questions.asked) >= MAX_QUESTIONS or self.stream.closed or self.stream.closing

    def ask(self, question: str) -> int:
        """Ask; returns the answer's number. The first question takes the time to decode the video's frames."""
        if len(self.questions.unanswered) >= MAX_WAITING:
            raise ApiError(429, f"{MAX_WAITING} questions are being answered", next_step="wait for an answer")
        self.used_s = time.monotonic()
        if self.questions.asked:
            return self.stream.ask(question)
        clip = self._read_clip()
        return self.stream.ask(question, clip.frames, clip.plan.frame_s)

    def close(self) -> None:
        """End it, and give its memory back."""
        self.stream.close()

    def _read_clip(self) -> Clip:
        """Frames spread over the video, no more than the model's clips have at their smallest size."""
        limits = self._engine.checkpoint.limits
        n_frames = 2 * limits.total_pixels // limits.min_pixels
        limits = replace(limits, max_frames=min(max(n_frames, LEAST_FRAMES), MOST_FRAMES, limits.max_frames))
        return read_clip(self.video.path, limits=limits, rule="question")
