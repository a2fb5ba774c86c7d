"""Judges in this process, without a server."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

from evaluation.judge.judge import MAX_VERDICT_TOKENS, CommentaryPair, judge_prompt
from evaluation.livesports3kcc.llm_judge import judge_events
from evaluation.tasks.prompts import PromptTemplates
from tests.contests import write_event_files
from utils.endpoint import EndpointArguments
from utils.errors import UserError


def test_a_local_judge_of_this_project(tmp_path: Path, tiny_checkpoint: Path, monkeypatch):
    from evaluation.judge.local_judge import LocalJudge

    arguments = replace(write_event_files(tmp_path, 2), judge="local", judge_model_path=str(tiny_checkpoint))
    result = judge_events(replace(arguments, device="cpu"), EndpointArguments())
    assert len(result.results) == 2
    # A random model does not come to an end: what was cut off is no verdict.
    assert all("--max_verdict_tokens 64" in outcome.shown["error"] for outcome in result.results)
    assert len(result.settings["checkpoint"]) == 16
    judge = LocalJudge(str(tiny_checkpoint), PromptTemplates(), "cpu")
    pairs = [CommentaryPair("x", *texts) for texts in itertools.permutations(("a goal", "a pass", "red scores"))]
    said = [load_reply(judge, pair) for pair in pairs]
    assert said == [as_transformers_answers(tiny_checkpoint, judge_prompt(PromptTemplates(), pair)) for pair in pairs]
    assert len(set(said)) > 1
    with pytest.raises(UserError, match="no checkpoint"):
        LocalJudge(str(tmp_path / "none"), PromptTemplates())


def load_reply(judge, pair: CommentaryPair) -> str:
    """What the judge's model says, cut off or not."""
    return judge._reply(judge_prompt(PromptTemplates(), pair))[0]


def as_transformers_answers(checkpoint: Path, prompt: str) -> str:
    """The greedy answer of transformers' own model and chat template."""
    processor = AutoProcessor.from_pretrained(checkpoint)
    model = Qwen2VLForConditionalGeneration.from_pretrained(checkpoint, dtype="float32").eval()
    turn = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
    given = processor.apply_chat_template(
        turn, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    written = model.generate(
        **given, do_sample=False, max_new_tokens=MAX_VERDICT_TOKENS, temperature=None, top_p=None, top_k=None
    )
    return processor.tokenizer.decode(written[0, given["input_ids"].shape[1] :], skip_special_tokens=True)


def test_a_local_judge_of_another_kind_answers_as_transformers_does(tmp_path: Path, tiny_checkpoint: Path):
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    from evaluation.judge.local_judge import LocalJudge, load_replier
    from models.load import CHAT_TEMPLATE

    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, eos_token_id=tokenizer.convert_tokens_to_ids("<|im_end|>"),
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    model.save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    reply, fingerprint = load_replier(str(tmp_path / "lm"), "cpu")
    text = (
        f"{tokenizer.apply_chat_template([{'role': 'user', 'content': 'red'}], tokenize=False)}<|im_start|>assistant\n"
    )
    ids = tokenizer(text, return_tensors="pt")
    written = model.generate(**ids, do_sample=False, max_new_tokens=64)[0, ids["input_ids"].shape[1] :]
    assert reply("red") == (tokenizer.decode(written, skip_special_tokens=True), True)
    assert len(fingerprint) == 16
    first = tokenizer.decode(written[:1], skip_special_tokens=True)
    model.generation_config.eos_token_id = int(written[1])  # now it ends after two tokens, of itself
    model.save_pretrained(tmp_path / "lm")
    assert load_replier(str(tmp_path / "lm"), "cpu")[0]("red")[1] is False
    judge = LocalJudge(str(tmp_path / "lm"), PromptTemplates(), "cpu")
    judge._reply = load_replier(str(tmp_path / "lm"), "cpu")[0]
    assert isinstance(first, str) and judge._reply("red")[0].startswith(first)
