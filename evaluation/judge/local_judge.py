"""An open model as the judge, in this process: by the project's own loop if it can stream, else by Auto classes."""

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

from data.samples.families import MODEL_TYPES
from evaluation.judge.judge import MAX_VERDICT_TOKENS, CommentaryPair, judge_prompt, more_tokens
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.reading import final_answer
from models.load import chosen_device, load_checkpoint
from models.streaming.options import StreamOptions
from models.streaming.requests import run_alone
from models.streaming.session import StreamingSession
from utils.errors import UserError
from utils.fingerprint import checkpoint_fingerprint

Reply = Callable[[str], tuple[str, bool]]  # a prompt -> what is said, and whether the limit of tokens cut it off


class LocalJudge:
    """Greedy verdicts of the model in a folder, or of a hub id; one call at a time."""

    def __init__(
        self,
        name_or_path: str,
        templates: PromptTemplates,
        device: str | None = None,
        max_tokens: int = MAX_VERDICT_TOKENS,
    ):
        self.templates, self.max_tokens = templates, max_tokens
        judge_prompt(
            templates, CommentaryPair("", "", "", "")
        )  # an unfit template is an error before the weights are read
        self._reply, fingerprint = load_replier(name_or_path, device, max_tokens)
        self.settings = {
            "judge": name_or_path, "checkpoint": fingerprint, "templates": templates.hashes,
            "max_tokens": max_tokens, "repetition_penalty": "the model's own, none for one that streams",
        }  # fmt: skip

    def __call__(self, pair: CommentaryPair) -> str:
        return final_answer(*self._reply(judge_prompt(self.templates, pair)), more_tokens(self.max_tokens))


def load_replier(
    name_or_path: str, device: str | None = None, max_tokens: int = MAX_VERDICT_TOKENS
) -> tuple[Reply, str]:
    """A function that answers a prompt greedily, and the checkpoint's fingerprint (for a hub id its revision).

    Raises UserError where the checkpoint cannot be loaded.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--judge_model_path {name_or_path}: no checkpoint ({str(error).splitlines()[0]}); give a folder or hub id"
        ) from error
    if config.model_type in MODEL_TYPES:
        reply = _streaming(name_or_path, device, max_tokens)
    else:
        reply = _auto(name_or_path, config, device, max_tokens)
    with contextlib.suppress(FileNotFoundError):
        return reply, checkpoint_fingerprint(name_or_path)
    return reply, getattr(config, "_commit_hash", None) or ""


def is_cut(model: Any, said: torch.Tensor, max_tokens: int) -> bool:
    """Whether the limit ended what a model of transformers wrote, ids [n], and not an end of its own."""
    ends = model.generation_config.eos_token_id
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    return len(said) >= max_tokens and int(said[-1]) not in ends


def _streaming(name_or_path: str, device: str | None, max_tokens: int) -> Reply:
    """A turn of words alone through the project's own loop."""
    checkpoint = load_checkpoint(name_or_path, device=device)
    # No penalty: the verdict repeats words of the prompt, and transformers' models are asked without one.
    options = StreamOptions(query="", max_answer_tokens=max_tokens, remember_questions=True, repetition_penalty=1.0)

    def reply(prompt: str) -> tuple[str, bool]:
        session, pieces = StreamingSession(checkpoint, options), []
        try:
            with torch.inference_mode():
                ids = run_alone(session.answer_task(prompt, pieces.append), session.batch)
            return "".join(pieces), ids[-1] not in checkpoint.eos_ids
        finally:
            session.close()

    return reply


def _auto(name_or_path: str, config: Any, device: str | None, max_tokens: int) -> Reply:
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

    def reply(prompt: str) -> tuple[str, bool]:
        turn = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            written = model.generate(**ids.to(place), do_sample=False, max_new_tokens=max_tokens)
        said = written[0, ids["input_ids"].shape[1] :]
        return tokenizer.decode(said, skip_special_tokens=True), is_cut(model, said, max_tokens)

    return reply
