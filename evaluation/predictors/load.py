"""The predictor that a command's flags name; each kind imports torch and transformers only when it is asked for."""

import os
from typing import Any

from data.samples.families import MODEL_TYPES
from evaluation.predictors.predictor import Predictor
from evaluation.predictors.predictor_arguments import AnswererArguments, CaptionerArguments, PredictorArguments
from utils.endpoint import EndpointArguments
from utils.errors import UserError


def load_checkpoint_predictor(arguments: PredictorArguments, device: str | None) -> Predictor:
    """Load a checkpoint that streams through this project's own code."""
    from evaluation.predictors.checkpoint import CheckpointPredictor

    return CheckpointPredictor.load(arguments, device)


def load_captioner(arguments: tuple[CaptionerArguments, EndpointArguments], device: str | None = None) -> Predictor:
    """Load a model of transformers that writes, or connect to one behind an endpoint (the second arguments)."""
    captioner, endpoint = arguments
    if captioner.api_model is None:
        from evaluation.predictors.captioner import Captioner

        return Captioner.load(captioner, device)
    from evaluation.predictors.api_captioner import ApiCaptioner

    return ApiCaptioner.connect(captioner, endpoint, n_processes=int(os.environ.get("WORLD_SIZE", "1")))


def load_answerer(arguments: AnswererArguments, device: str | None = None) -> Predictor:
    """Load what answers questions: a checkpoint that streams through this project's code, any other through
    transformers' Auto classes, or a model behind an endpoint. Raises UserError."""
    if arguments.api_model is None and model_type(arguments.model_name_or_path) in MODEL_TYPES:
        return load_checkpoint_predictor(arguments, device)
    return load_captioner((arguments, arguments), device)


def load_watcher(arguments: tuple[AnswererArguments, Any], device: str | None = None) -> Predictor:
    """Load what answers questions in mid-stream (load_live). Raises UserError for a model that cannot watch."""
    model, _ = arguments
    if model.api_model is not None or model_type(model.model_name_or_path) not in MODEL_TYPES:
        raise UserError(
            "--online runs through the streaming loop: give a Qwen2-VL or Qwen2.5-VL checkpoint (--model_name_or_path)"
        )
    return load_live(arguments, device)


def load_live(arguments: tuple[PredictorArguments, Any], device: str | None = None) -> Predictor:
    """Load a checkpoint that watches; the second arguments say what it remembers (live_memory.LiveMemory)."""
    from evaluation.predictors.live import LivePredictor

    return LivePredictor.load(arguments, device)


def model_type(name_or_path: str) -> str:
    """The kind of a checkpoint by its config; "qwen2_vl" where it has none, whose loader says what is wrong with it."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(name_or_path).model_type
    except (OSError, ValueError):
        return "qwen2_vl"
