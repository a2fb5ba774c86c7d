"""What a checkpoint's folder says about reading data: processor, position mode, video limits; no weights are loaded."""

import logging
from pathlib import Path
from typing import Any, cast

from huggingface_hub.errors import HFValidationError
from transformers import AutoConfig, AutoProcessor, PretrainedConfig

from data.samples.families import MODEL_TYPES
from data.samples.positions import POSITION_MODES, PositionMode
from data.samples.weights_origin import Origin, origin_of
from data.video.frame_plan import VideoLimits
from utils.errors import UserError

logger = logging.getLogger(__name__)


def load_processor(name_or_path: str | Path) -> tuple[Any, PretrainedConfig | None]:
    """The processor alone, and the model's config where the folder holds one: for looking at data without weights."""
    try:
        processor = AutoProcessor.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise UserError(f"{name_or_path}: no processor there ({error}); give a checkpoint's folder") from error
    has_config = not Path(name_or_path).is_dir() or (Path(name_or_path) / "config.json").exists()
    return processor, read_config(str(name_or_path)) if has_config else None


def choose_position_mode(config: PretrainedConfig | None, name: str, wanted: str | None = None) -> PositionMode:
    """The mode asked for, else the checkpoint's own, else that of its weights' origin.

    The choice is logged, as a warning where it is a guess: with the other mode a model speaks, and worse.
    """
    recorded = getattr(config, "position_mode", None)
    if wanted or recorded:
        mode = cast(PositionMode, wanted or recorded)  # checked below
        origin = Origin(mode, "asked for" if wanted else "from its config.json", is_guess=False)
    else:
        origin = origin_of(name)
    mode, why, is_guess = origin
    if mode not in POSITION_MODES:
        raise UserError(f"{name}: position mode {mode!r} {why}; choose one of {', '.join(POSITION_MODES)}")
    if is_guess:
        logger.warning("warning: %s: position mode %s is a guess, %s; --position_mode sets it", name, mode, why)
    else:
        logger.info("%s: position mode %s, %s (--position_mode changes it)", name, mode, why)
    return mode


def limits_of(config: PretrainedConfig | None) -> VideoLimits:
    """The video limits in force: the environment's, else the checkpoint's, else the published defaults."""
    recorded = getattr(config, "video_limits", None) or {}
    return VideoLimits.from_environment(base=VideoLimits(**recorded))


def _instead(path: Path) -> str:
    """What to give in place of a path that is no checkpoint's folder."""
    if path.is_file():
        return f"it is a file; {'GGUF is not read, ' if path.suffix == '.gguf' else ''}give a folder with safetensors"
    if any(path.glob("*.gguf")):
        return "there are GGUF files, which are not read; give a folder with safetensors"
    below = sorted(str(config.parent) for depth in ("*", "*/*") for config in path.glob(f"{depth}/config.json"))
    if below:
        return f"there is one below it: give {' or '.join(below[-3:])}"
    return "check the path or give a hub id"


def read_config(name: str) -> PretrainedConfig:
    """The config of a folder or hub id. Raises UserError where there is none that can stream here."""
    path = Path(name)
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or path.exists()
    if looks_local and not (path / "config.json").is_file():
        raise UserError(f"{name}: no checkpoint folder (config.json) there; {_instead(path)}")
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
    if quantized := getattr(config, "quantization_config", None):
        method = quantized.get("quant_method", "unknown") if isinstance(quantized, dict) else quantized.quant_method
        raise UserError(
            f"{name}: weights quantized by {method}, which are not read; give the checkpoint that they were made of "
            "(--lora_bits 4 quantizes one for training)"
        )
    if config.model_type not in MODEL_TYPES:
        known = " and ".join(map(repr, MODEL_TYPES))
        raise UserError(
            f"{name}: model type {config.model_type!r}, and only {known} can stream here; give a Qwen2-VL or "
            "Qwen2.5-VL checkpoint such as chenjoya/LiveCC-7B-Instruct or Qwen/Qwen2.5-VL-3B-Instruct"
        )
    return config
