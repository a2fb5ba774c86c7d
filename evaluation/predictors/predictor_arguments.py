"""Flags of the predictors, apart from the predictors themselves, whose imports take seconds."""

from dataclasses import dataclass, field
from typing import Literal

from models.checkpoint_arguments import DTYPES, CheckpointArguments, PlacementArguments
from utils.arguments import helped
from utils.errors import UserError


@dataclass
class PredictorArguments(CheckpointArguments):
    """Which model answers, and how it runs."""

    model_name_or_path: str = field(kw_only=True, metadata={"help": "folder or hub id of a Qwen2-VL checkpoint"})
    compat: Literal["livecc"] | None = helped(
        None, "stream as the published code does (livecc): positions, frames, turns"
    )


@dataclass
class CaptionerArguments(PlacementArguments):
    """Which model writes, and how it runs."""

    model_name_or_path: str | None = helped(None, "folder or hub id of any image-text-to-text model of transformers")
    api_model: str | None = helped(
        None, "in its place: a model behind an OpenAI-compatible endpoint, such as gpt-4o-2024-08-06"
    )
    max_images: int = helped(32, "frames, evenly spread, for an endpoint or a model that takes no videos", ge=1)

    def __post_init__(self) -> None:
        if (self.model_name_or_path is None) == (self.api_model is None):
            raise UserError("give --model_name_or_path or --api_model, and not both")
        if self.max_images < 2:
            raise UserError(f"--max_images {self.max_images}: give at least 2")
        if self.dtype not in (None, *DTYPES):
            raise UserError(f"--dtype {self.dtype}: choose {', '.join(DTYPES)}")


def model_id(name_or_path: str) -> str:
    """The name under which a model's results stand: the last part of its path or hub id."""
    return name_or_path.rstrip("/").rsplit("/", 1)[-1]
