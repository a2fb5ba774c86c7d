"""An open model as the judge, in this process: a Qwen2-VL through the project's loader, others through Auto classes."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)

from evaluation.judge.judge import MAX_VERDICT_TOKENS, CommentaryPair, judge_prompt
from evaluation.tasks.prompts import PromptTemplates
from models.load import chosen_device, load_checkpoint
from models.streaming.options import StreamOptions
from models.streaming.session import StreamingSession
from utils.errors import UserError
from utils.fingerprint import checkpoint_fingerprint

Reply = Callable[[str], str]


class LocalJudge:
    """Greedy verdicts of the model in a folder, or of a hub id; one call at a time."""

    def __init__(self, name_or_path: str, templates: PromptTemplates, device: str | None = None):
        self.templates = templates
        judge_prompt(
            templates, CommentaryPair("", "", "", "")
        )  # an unfit template is an error before the weights are read
        self._reply, fingerprint = load_replier(name_or_path, device)
        self.settings = {
            "judge": name_or_path, "checkpoint": fingerprint, "templates": templates.hashes,
            "max_tokens": MAX_VERDICT_TOKENS, "repetition_penalty": "the model's own, none for a Qwen2-VL",
        }  # fmt: skip

    def __call__(self, pair: CommentaryPair) -> str:
        return self._reply(judge_prompt(self.templates, pair))


def load_replier(name_or_path: str, device: str | None = None) -> tuple[Reply, str]:
    """A function from a prompt to a greedy answer, and the checkpoint's fingerprint (for a hub id its revision).

    Raises UserError where the checkpoint cannot be loaded.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--judge_model_path {name_or_path}: no checkpoint ({str(error).splitlines()[0]}); give a folder or hub id"
        ) from error
    reply = _streaming(name_or_path, device) if config.model_type == "qwen2_vl" else _auto(name_or_path, config, device)
    with contextlib.suppress(FileNotFoundError):
        return reply, checkpoint_fingerprint(name_or_path)
    return reply, getattr(config, "_commit_hash", None) or ""


def _streaming(name_or_path: str, device: str | None) -> Reply:
    """A turn of words alone through the project's own loop."""
    checkpoint = load_checkpoint(name_or_path, device=device)
    # No penalty: the verdict repeats words of the prompt, and transformers' models are asked without one.
    options = StreamOptions(
        query="", max_answer_tokens=MAX_VERDICT_TOKENS, remember_questions=True, repetition_penalty=1.0
    )

    def reply(prompt: str) -> str:
        session = StreamingSession(checkpoint, options)
        try:
            with torch.inference_mode():
                return "".join(session.ask(prompt))
        finally:
            session.close()

    return reply


def _auto(name_or_path: str, config: Any, device: str | None) -> Reply:
    """Whatever transformers can load: a language model, or one that also sees."""
    sees = type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    auto_class = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    place = chosen_device(device)
    try:
        dtype = torch.float32 if place.type == "cpu" else "auto"
        model = auto_class.from_pretrained(name_or_path, dtype=dtype).to(place).eval()
        tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"--judge_model_path {name_or_path}: cannot be loaded ({error})") from error
    if not tokenizer.chat_template:
        raise UserError(f"--judge_model_path {name_or_path}: no chat template; give an instruction-tuned model")

    def reply(prompt: str) -> str:
        turn = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            written = model.generate(**ids.to(place), do_sample=False, max_new_tokens=MAX_VERDICT_TOKENS)
        return tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)

    return reply
