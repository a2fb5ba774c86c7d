"""What a checkpoint's folder says about reading data: processor, position mode, video limits; no weights are loaded."""

import logging
from pathlib import Path
from typing import Any, cast

from huggingface_hub.errors import HFValidationError
from transformers import AutoConfig, AutoProcessor, PretrainedConfig

from data.samples.families import MODEL_TYPES
from data.samples.positions import POSITION_MODES, PositionMode
from data.video.frame_plan import VideoLimits
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Their weights were trained with 1-D positions in effect: Liger 0.5.5 built M-RoPE positions in the first
# micro-batch of each process only.
SEQUENTIAL_CHECKPOINTS = ("LiveCC-7B-Base", "LiveCC-7B-Instruct")


def load_processor(name_or_path: str | Path) -> tuple[Any, PretrainedConfig | None]:
    """The processor alone, and the model's config where the folder holds one: for looking at data without weights."""
    try:
        processor = AutoProcessor.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise UserError(f"{name_or_path}: no processor there ({error}); give a checkpoint's folder") from error
    has_config = not Path(name_or_path).is_dir() or (Path(name_or_path) / "config.json").exists()
    return processor, read_config(str(name_or_path)) if has_config else None


def choose_position_mode(config: PretrainedConfig | None, name: str, wanted: str | None = None) -> PositionMode:
    """The mode asked for, else the checkpoint's own, else what its name tells; the choice is logged."""
    recorded = getattr(config, "position_mode", None)
    known = "sequential" if Path(name).name in SEQUENTIAL_CHECKPOINTS else "mrope"
    mode, why = next(
        (mode, why)
        for mode, why in ((wanted, "asked for"), (recorded, "from its config.json"), (known, "by its name"))
        if mode
    )
    if mode not in POSITION_MODES:
        raise UserError(f"{name}: position mode {mode!r} {why}; choose one of {', '.join(POSITION_MODES)}")
    logger.info("%s: position mode %s, %s (--position_mode changes it)", name, mode, why)
    return cast(PositionMode, mode)


def limits_of(config: PretrainedConfig | None) -> VideoLimits:
    """The video limits in force: the environment's, else the checkpoint's, else the published defaults."""
    recorded = getattr(config, "video_limits", None) or {}
    return VideoLimits.from_environment(base=VideoLimits(**recorded))


def read_config(name: str) -> PretrainedConfig:
    """The config of a folder or hub id. Raises UserError where there is none that can stream here."""
    path = Path(name).expanduser()
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_local and not (path / "config.json").is_file():
        raise UserError(f"{name}: no checkpoint folder (config.json) there; check the path or give a hub id")
    if (path / "adapter_config.json").is_file():
        raise UserError(
            f"{name}: LoRA adapters without the weights they belong to; merge them with python scripts/merge_lora.py "
            f"BASE {name} OUT, and give OUT"
        )
    if not path.is_dir():
        logger.warning("%s is no local folder: fetching it from the Hugging Face hub (or its local cache)", name)
    try:
        config = AutoConfig.from_pretrained(name)
    except (OSError, ValueError, HFValidationError) as error:
        raise UserError(
            f"{name}: no config found ({str(error).splitlines()[0]}); give a local folder or a hub id you can reach"
        ) from error
    if config.model_type not in MODEL_TYPES:
        known = " and ".join(map(repr, MODEL_TYPES))
        raise UserError(
            f"{name}: model type {config.model_type!r}, and only {known} can stream here; give a Qwen2-VL or "
            "Qwen2.5-VL checkpoint such as chenjoya/LiveCC-7B-Instruct or Qwen/Qwen2.5-VL-3B-Instruct"
        )
    return config
