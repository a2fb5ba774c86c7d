"""Families of models that stream here, and what reading data depends on in each."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from data.video.frame_plan import FRAME_FACTOR

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Family:
    """What a checkpoint's family decides about its data.

    positions_per_s: of the time axis of a video (`tokens_per_second` of Qwen2.5-VL's config); None where each grid of
    time takes one position, however long it lasts (Qwen2-VL).
    """

    model_type: str
    positions_per_s: float | None = None

    def time_step(self, frame_s: float) -> float:
        """Positions between two grids of time, of frames that are `frame_s` seconds apart."""
        return 1.0 if self.positions_per_s is None else self.positions_per_s * FRAME_FACTOR * frame_s


QWEN2_VL = Family("qwen2_vl")
MODEL_TYPES = (QWEN2_VL.model_type, "qwen2_5_vl")


def family_of(config: "PretrainedConfig | None") -> Family:
    """The family of a checkpoint's config; without one, Qwen2-VL. Raises ValueError for one that cannot stream here."""
    if config is None or config.model_type == QWEN2_VL.model_type:
        return QWEN2_VL
    if config.model_type not in MODEL_TYPES:
        raise ValueError(f"model type {config.model_type!r}: choose one of {', '.join(MODEL_TYPES)}")
    return Family(config.model_type, float(config.vision_config.tokens_per_second))
