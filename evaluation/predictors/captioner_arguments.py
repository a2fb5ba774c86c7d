"""Which model writes captions: the flags, apart from the captioners, whose imports take seconds."""

from dataclasses import dataclass, field

from models.checkpoint_arguments import DTYPES, PlacementArguments
from utils.errors import UserError


@dataclass
class CaptionerArguments(PlacementArguments):
    """Which model writes, and how it runs."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "folder or hub id of any image-text-to-text model of transformers"}
    )
    api_model: str | None = field(
        default=None,
        metadata={"help": "in its place: a model behind an OpenAI-compatible endpoint, such as gpt-4o-2024-08-06"},
    )
    max_images: int = field(
        default=32, metadata={"help": "frames, evenly spread, for an endpoint or a model that takes no videos"}
    )

    def __post_init__(self) -> None:
        if (self.model_name_or_path is None) == (self.api_model is None):
            raise UserError("give --model_name_or_path or --api_model, and not both")
        if self.max_images < 2:
            raise UserError(f"--max_images {self.max_images}: give at least 2")
        if self.dtype not in (None, *DTYPES):
            raise UserError(f"--dtype {self.dtype}: choose {', '.join(DTYPES)}")
