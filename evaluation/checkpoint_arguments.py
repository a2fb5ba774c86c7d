"""Which checkpoint an evaluation asks: the flags, apart from the predictor, whose imports take seconds."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class CheckpointArguments:
    """Which model answers, and how it runs."""

    model_name_or_path: str = field(metadata={"help": "folder or hub id of a Qwen2-VL checkpoint"})
    device: str | None = field(default=None, metadata={"help": "cuda, cuda:1, mps or cpu; default: the fastest here"})
    dtype: str | None = field(
        default=None, metadata={"help": "float32, bfloat16 or float16; default: bfloat16 on a GPU, float32 on a CPU"}
    )
    position_mode: Literal["mrope", "sequential", "livecc"] | None = field(
        default=None, metadata={"help": "positions of visual tokens; default: the checkpoint's own mode"}
    )
    compat: Literal["livecc"] | None = field(
        default=None, metadata={"help": "stream as the published code does (livecc): positions, frames, turns"}
    )


def model_id(name_or_path: str) -> str:
    """The name under which a model's results stand: the last part of its path or hub id."""
    return name_or_path.rstrip("/").rsplit("/", 1)[-1]
