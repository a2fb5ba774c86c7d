"""Flags of a checkpoint, once for all commands: which positions, where it runs, and in which precision."""

from dataclasses import dataclass
from typing import Literal, get_args

from utils.arguments import helped

Dtype = Literal["float32", "bfloat16", "float16"]
DTYPES: tuple[str, ...] = get_args(Dtype)


@dataclass
class PositionArguments:
    """How visual tokens are counted."""

    position_mode: Literal["mrope", "sequential", "livecc"] | None = helped(
        None, "positions of visual tokens; default: the checkpoint's own mode"
    )


@dataclass
class PlacementArguments:
    """Where a model runs."""

    dtype: Dtype | None = helped(None, "float32, bfloat16 or float16; default: bfloat16 on a GPU, float32 on a CPU")
    device: str | None = helped(None, "cuda, cuda:1, mps or cpu; default: the fastest here")


@dataclass
class CheckpointArguments(PlacementArguments, PositionArguments):
    """How a Qwen2-VL checkpoint runs."""
