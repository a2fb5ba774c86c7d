"""How a stream speaks and what it keeps: every option once, with its default, limits and text.

The flags of commands, the schema of the server, the page's controls and saved sessions are made of these classes.
pydantic holds the limits: a value outside them is a ValidationError, which utils/options.py turns into one message.
Nothing here imports torch, so a mistyped flag is told at once.
"""

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

DEFAULT_QUERY = "Please describe the video."
CachePolicy = Literal["full", "window", "reprefill"]
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)  # a typo in a saved session or a request is an error


@dataclass(frozen=True, config=STRICT)
class DecodingOptions:
    """How tokens are chosen. `temperature`, `top_k` and `top_p` matter only with `do_sample`."""

    do_sample: bool = Field(default=False, description="sample; else the likeliest token is taken")
    temperature: float = Field(default=1.0, gt=0, le=1e6, description="of sampling")
    top_k: int = Field(default=0, ge=0, le=10**6, description="sample among so many likeliest tokens; 0: all")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="sample among the likeliest tokens that make up this share"
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="of sampling")
    repetition_penalty: float = Field(
        default=1.05, gt=0, le=1e6, description="divides the scores of tokens that are already in the context"
    )
    silence_threshold_base: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="forbid silence while its probability is at most base + step * (tokens spoken in this step)",
    )
    silence_threshold_step: float = Field(default=0.0, ge=-1, le=1, description="see silence_threshold_base")


@dataclass(frozen=True, config=STRICT)
class RetentionOptions:
    """What of its past a stream keeps, in tokens and seconds.

    `window` keeps the sinks (system turn, first turn and query: their text always, their frames where both fit in
    `sink_tokens`), the latest whole steps of text within `text_tokens`, and the frames of the last `vision_s` seconds,
    no more than `vision_tokens` of them. `reprefill` reads the text again without its frames every `reprefill_s`
    seconds, at most `reprefill_text_tokens` of it. (Sinks: Xiao et al. 2024; reading again: the LiveCC paper, 2025.)
    """

    cache_policy: CachePolicy = Field(
        default="full",
        description="full (everything), window (bounded for ever) or reprefill (text; frames are dropped)",
    )
    sink_tokens: int = Field(
        default=512, ge=0, description="window: the first turn's frames stay where it has no more tokens than this"
    )
    text_tokens: int = Field(default=512, ge=0, description="window: tokens of the latest text")
    vision_s: float = Field(
        default=16.0, ge=1, description="window: seconds of the latest frames; a step's own at least"
    )
    vision_tokens: int | None = Field(default=None, ge=0, description="window: most visual tokens; default: no limit")
    reprefill_s: float = Field(
        default=240.0, ge=0, description="reprefill: seconds after which frames are dropped and text is read again"
    )
    reprefill_text_tokens: int = Field(
        default=16384, ge=0, description="reprefill: most tokens of text that are read again"
    )


@dataclass(frozen=True, config=STRICT)
class StreamOptions(DecodingOptions):
    """How a session comments.

    `compat="livecc"` counts positions as the published loop does, ends a turn at the checkpoint's eos ids and never at
    " ...", loses a cut-off turn's last token from the context, and lets a question ride on the next step. Its frames
    (by end time, resized in float32) are the source's part.
    """

    query: str = Field(default=DEFAULT_QUERY, max_length=2000, description="what the commentary should be")
    max_new_tokens: int = Field(default=16, ge=1, le=256, description="most tokens a step")
    max_answer_tokens: int = Field(default=512, ge=1, le=2048, description="most tokens of an answer")
    remember_questions: bool = Field(
        default=False, description="let the commentary remember questions and answers (it waits for them)"
    )
    words_per_second: float | None = Field(
        default=None, gt=0, le=1e6, description="most words a second over a few seconds; default: as many as it likes"
    )
    retention: RetentionOptions = Field(default_factory=RetentionOptions, description="what it keeps of its past")
    compat: Literal["livecc"] | None = Field(
        default=None,
        description="reproduce the published streaming loop as a whole (livecc): positions, frame times, turns",
    )
