"""Settings of the page in words for people, and what they mean to the model."""

from dataclasses import replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from data.video.frame_plan import VideoLimits
from demo.arguments import LIVE_MAX_PIXELS
from models.load import Checkpoint
from models.streaming.options import DEFAULT_QUERY, RetentionOptions, StreamOptions

QUERY_CHARACTERS = 500
QUERY_EXAMPLES = (
    DEFAULT_QUERY,
    "Commentate this match for the radio.",
    "Describe what happens for someone who cannot see the picture.",
    "Explain each step to a beginner.",
)
# How likely silence may be and still be left for a word (models/streaming/decoding.py); None: as the model was trained.
EAGERNESS = {"Relaxed": None, "Eager": 0.5, "Never quiet": 0.95}
QUALITY = {"Fast": 0.5, "Balanced": 1.0, "Sharp": 2.0}  # pixels of a frame, relative to the usual
MOST_WORDS = 6  # a second; as many as this means no limit
ANSWER_TOKENS = 128


class Settings(BaseModel):
    """Choices of a tab. Strangers send them, so their forms are checked."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(DEFAULT_QUERY, max_length=QUERY_CHARACTERS)
    eagerness: Literal[*EAGERNESS] = "Relaxed"
    words: float = Field(MOST_WORDS, ge=0.5, le=MOST_WORDS, allow_inf_nan=False)
    quality: Literal[*QUALITY] = "Balanced"

    @field_validator("query")
    @classmethod
    def _said(cls, query: str) -> str:
        return " ".join(query.split()) or DEFAULT_QUERY

    def stream_options(self) -> StreamOptions:
        """Options of the commentary's stream."""
        return StreamOptions(
            query=self.query, silence_threshold_base=EAGERNESS[self.eagerness],
            words_per_second=self.words if self.words < MOST_WORDS else None, max_answer_tokens=ANSWER_TOKENS,
            retention=RetentionOptions("window"),
        )  # fmt: skip

    def limits(self, checkpoint: Checkpoint) -> VideoLimits:
        """Limits of the frames that the model looks at."""
        return replace(checkpoint.limits, max_pixels=frame_pixels(checkpoint, self.quality))


def frame_pixels(checkpoint: Checkpoint, quality: str) -> int:
    """Most pixels of a frame. Never under what the model was made for, nor over what a clip of it may have."""
    limits = checkpoint.limits
    most = max(limits.total_pixels, limits.min_pixels)
    return min(max(round(LIVE_MAX_PIXELS * QUALITY[quality]), limits.min_pixels), most)


def has_qualities(checkpoint: Checkpoint) -> bool:
    """Whether the choice of quality changes anything for this model."""
    return len({frame_pixels(checkpoint, quality) for quality in QUALITY}) > 1


def conversation_options() -> StreamOptions:
    """Options of a conversation about a whole video: it and all that was said is remembered."""
    return StreamOptions(
        repetition_penalty=1.0, max_answer_tokens=ANSWER_TOKENS, remember_questions=True,
        retention=RetentionOptions("full"),
    )  # fmt: skip
