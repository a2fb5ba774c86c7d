"""What clients send and get, as models: the OpenAPI page is made of them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from demo.live.limits import QUESTION_CHARACTERS
from models.streaming.options import StreamOptions
from utils.options import option_fields

ID_PATTERN = r"^([a-z][a-z0-9]{0,15}-)?[0-9a-f]{32}$"
SPEECH = option_fields(StreamOptions, omit=("retention", "compat"))  # what a client may say of how a session speaks
Speech = create_model("Speech", **{name: (info.annotation, info) for name, info in SPEECH.items()})


class NewSession(Speech):
    """Request for a session: what it watches and how it speaks. Without `source`, frames are pushed."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    source: str | None = Field(None, max_length=2000, description="file, folder, URL or camera that the server allows")
    resume: str | None = Field(None, pattern=ID_PATTERN, description="id of a saved session, which keeps its options")
    realtime: bool = Field(
        True, description="keep up and drop late frames; false: comment on every frame, a fast sender has to wait"
    )
    images_fps: float = Field(2.0, gt=0, le=1000, description="images a second of a folder")

    @model_validator(mode="after")
    def _resumed_keeps_its_options(self) -> "NewSession":
        given = self.model_fields_set & set(SPEECH)
        if self.resume and given:
            raise ValueError(f"a saved session keeps its own {', '.join(sorted(given))}; leave that out")
        return self


class SessionState(BaseModel):
    """State of a session. Saved and continued, it goes on at next_s and counts records on from last_seq."""

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
    """Result of pushing a frame."""

    taken: bool = Field(description="false: left out, another frame stands for the same half second")
    grid_s: float | None = Field(description="the time that it stands for")


class Question(BaseModel):
    """A question about what was seen so far."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=QUESTION_CHARACTERS)


class AcceptedQuestion(BaseModel):
    """Accepted question: the number that the answer's records carry as "id"."""

    id: int


class Saved(BaseModel):
    """A saved session."""

    id: str
    next_s: float
    last_seq: int
    n_bytes: int


class Problem(BaseModel):
    """Error answer: why a request was not served."""

    error: str
    limit: str | float | None = None
    cause: str | None = None
    next_step: str | None = None
