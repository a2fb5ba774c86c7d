"""What clients send and get, as models: the OpenAPI page is made of them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.streaming import DEFAULT_QUERY

ID_PATTERN = r"^([a-z][a-z0-9]{0,15}-)?[0-9a-f]{32}$"
QUESTION_CHARACTERS = 2000
SPEECH = (
    "query", "max_new_tokens", "max_answer_tokens", "remember_questions", "words_per_second", "do_sample",
    "temperature", "top_k", "top_p", "seed", "repetition_penalty", "silence_threshold_base", "silence_threshold_step",
)  # fmt: skip

Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
Threshold = Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)]


class NewSession(BaseModel):
    """What a session watches and how it speaks. Without `source`, frames are pushed."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(DEFAULT_QUERY, min_length=1, max_length=QUESTION_CHARACTERS)
    source: str | None = Field(None, max_length=2000, description="file, folder, URL or camera that the server allows")
    resume: str | None = Field(None, pattern=ID_PATTERN, description="id of a saved session, which keeps its options")
    realtime: bool = Field(
        True, description="keep up and drop late frames; false: comment on every frame, a fast sender has to wait"
    )
    images_fps: float = Field(2.0, gt=0, le=1000, description="images a second of a folder")
    max_new_tokens: int = Field(16, ge=1, le=256, description="most tokens a step")
    max_answer_tokens: int = Field(512, ge=1, le=2048)
    remember_questions: bool = False
    words_per_second: Positive | None = None
    do_sample: bool = False
    temperature: Positive = 1.0
    top_k: int = Field(0, ge=0, le=10**6)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int = Field(0, ge=0, lt=2**63)
    repetition_penalty: Positive = 1.05
    silence_threshold_base: Threshold | None = None
    silence_threshold_step: Threshold = 0.0

    @model_validator(mode="after")
    def _resumed_keeps_its_options(self) -> "NewSession":
        given = self.model_fields_set & set(SPEECH)
        if self.resume and given:
            raise ValueError(f"a saved session keeps its own {', '.join(sorted(given))}; leave that out")
        return self


class SessionState(BaseModel):
    """How a session is doing. Saved and continued, it goes on at next_s and counts records on from last_seq."""

    id: str
    state: Literal["open", "ended"]
    query: str
    source: str | None
    realtime: bool
    next_s: float = Field(description="end of what has been commented on, in the stream's seconds")
    last_seq: int = Field(description="number of the latest record")
    n_frames: int = Field(description="frames that came to the stream: used, dropped or waiting")
    n_thinned: int = Field(description="frames left out because another stands for the same half second")
    n_refused: int
    n_steps: int
    n_words: int
    n_tokens: int
    n_dropped: int = Field(description="frames that came too late, or that the source gave up")
    lag_s: float
    n_waiting: int
    n_context: int
    cache_bytes: int


class FrameTaken(BaseModel):
    """What became of a frame."""

    taken: bool = Field(description="false: left out, another frame stands for the same half second")
    grid_s: float | None = Field(description="the time that it stands for")


class Question(BaseModel):
    """A question about what was seen so far."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=QUESTION_CHARACTERS)


class Asked(BaseModel):
    """The number that the answer's records carry as "id"."""

    id: int


class Saved(BaseModel):
    """A saved session."""

    id: str
    next_s: float
    last_seq: int
    n_bytes: int


class Problem(BaseModel):
    """Why a request was not served."""

    error: str
    limit: str | float | None = None
    cause: str | None = None
    next_step: str | None = None
