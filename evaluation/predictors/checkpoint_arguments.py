"""Which checkpoint an evaluation asks: the flags, apart from the predictor, whose imports take seconds."""

from dataclasses import dataclass, field
from typing import Literal

from models.checkpoint_arguments import CheckpointArguments


@dataclass
class PredictorArguments(CheckpointArguments):
    """Which model answers, and how it runs."""

    model_name_or_path: str = field(kw_only=True, metadata={"help": "folder or hub id of a Qwen2-VL checkpoint"})
    compat: Literal["livecc"] | None = field(
        default=None, metadata={"help": "stream as the published code does (livecc): positions, frames, turns"}
    )


def model_id(name_or_path: str) -> str:
    """The name under which a model's results stand: the last part of its path or hub id."""
    return name_or_path.rstrip("/").rsplit("/", 1)[-1]
