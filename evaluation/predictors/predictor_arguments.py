"""Flags of the predictors, apart from the predictors themselves, whose imports take seconds."""

import re
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from data.video.frame_plan import VideoLimits
from models.checkpoint_arguments import DTYPES, CheckpointArguments, PlacementArguments
from utils.arguments import helped
from utils.endpoint import EndpointArguments
from utils.errors import UserError

LIVECC = "chenjoya/LiveCC-7B-Instruct"
NAME_IN_A_RUN = re.compile(r"(?:checkpoint|step|epoch|global_step)[-_]?\d+|final|last|latest|best|merged|output|hf")


@dataclass
class PredictorArguments(CheckpointArguments):
    """Which model answers, and how it runs."""

    model_name_or_path: str = field(kw_only=True, metadata={"help": "folder or hub id of a Qwen2-VL checkpoint"})
    compat: Literal["livecc"] | None = helped(
        None, "stream as the published code does (livecc): positions, frames, turns"
    )

    def limits(self, own: VideoLimits) -> VideoLimits:
        """Video limits in force: the checkpoint's own."""
        return own


@dataclass
class FrameArguments:
    """Which frames of a clip are shown, beside the environment (VIDEO_MIN_PIXELS, VIDEO_MAX_PIXELS, FPS_MAX_FRAMES)."""

    fps: float | None = helped(None, "frames a second of a question's clip; default: 2")
    min_frames: int | None = helped(None, "least frames of a question's clip, as far as it holds them; default: 4")
    max_frames: int | None = helped(None, "most frames of a clip; default: FPS_MAX_FRAMES, the checkpoint's, or 480")
    min_pixels: int | None = helped(None, "least pixels of a frame; default: VIDEO_MIN_PIXELS, or the checkpoint's")
    max_pixels: int | None = helped(None, "most pixels of a frame; default: what total_pixels leaves for each")
    total_pixels: int | None = helped(None, "most pixels of a clip; default: VIDEO_MAX_PIXELS, or the checkpoint's")

    def limits(self, own: VideoLimits) -> VideoLimits:
        """Video limits in force: the flags', then `own`. Raises UserError for one that is not above 0."""
        given = {limit: getattr(self, limit) for limit in asdict(own) if getattr(self, limit) is not None}
        for name, value in given.items():
            if not value > 0:
                raise UserError(f"--{name} {value}: give a number above 0")
        return replace(own, **given)


@dataclass
class CaptionerArguments(FrameArguments, PlacementArguments):
    """Which model writes, and how it runs."""

    model_name_or_path: str | None = helped(None, "folder or hub id of any image-text-to-text model of transformers")
    api_model: str | None = helped(
        None, "in its place: a model behind an OpenAI-compatible endpoint, such as gpt-4o-2024-08-06"
    )
    max_images: int = helped(32, "frames, evenly spread, for an endpoint or a model that takes no videos", ge=1)
    max_answer_tokens: int | None = helped(
        None, "most tokens of an endpoint's reply; a model that thinks needs thousands; default: the benchmark's", ge=1
    )

    def __post_init__(self) -> None:
        if (self.model_name_or_path is None) == (self.api_model is None):
            raise UserError("give --model_name_or_path or --api_model, and not both")
        check_images(self)
        if self.dtype not in (None, *DTYPES):
            raise UserError(f"--dtype {self.dtype}: choose {', '.join(DTYPES)}")


@dataclass
class AnswererArguments(FrameArguments, PredictorArguments, EndpointArguments):
    """Which model answers questions: any checkpoint that transformers loads, or one behind an endpoint."""

    model_name_or_path: str | None = helped(
        None, f"folder or hub id of any image-text-to-text checkpoint; default: {LIVECC}"
    )
    api_model: str | None = helped(
        None, "in its place: a model behind an OpenAI-compatible endpoint, such as gpt-4o-2024-08-06"
    )
    max_images: int = helped(32, "frames, evenly spread, for an endpoint or a model that takes no videos")
    max_answer_tokens: int | None = helped(
        None, "most tokens of an endpoint's reply; a model that thinks needs thousands; default: the benchmark's"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.api_model is None:
            self.model_name_or_path = self.model_name_or_path or LIVECC
        elif self.model_name_or_path is not None:
            raise UserError("give --model_name_or_path or --api_model, and not both")
        check_images(self)


def check_images(arguments: CaptionerArguments | AnswererArguments) -> None:
    """Raise UserError for limits that allow nothing."""
    if arguments.max_images < 2:
        raise UserError(f"--max_images {arguments.max_images}: give at least 2")
    if arguments.max_answer_tokens is not None and arguments.max_answer_tokens < 1:
        raise UserError(f"--max_answer_tokens {arguments.max_answer_tokens}: give at least 1")


def model_id(name_or_path: str) -> str:
    """The name under which a model's results stand: the last part of its path or hub id, after the folder of a run
    where every run has one of that name (checkpoint-100)."""
    *parents, name = [part for part in name_or_path.split("/") if part not in ("", ".")] or [name_or_path]
    return f"{parents[-1]}_{name}" if parents and NAME_IN_A_RUN.fullmatch(name) else name
