"""Losses of transcripts: those of a plain loop, each text's own whatever is read with it."""

import random

import pytest
import torch
from torch.nn import functional
from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM, Qwen2Config, Qwen2ForCausalLM

from data.production.causal_lm import CausalLM, batches_by_width, padded_width
from data.production.lm_loss import LmLoss, LossOptions
from data.production.record import Record
from data.production.stage import Worker
from utils.errors import UserError

NANO = "models/nano_checkpoint"
WORDS = ["red", "blue", "passes", "the", "ball", "left", "right", "shoots", "and", "scores", "a", "goal", "now"]
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(NANO)


@pytest.fixture(scope="module")
def tiny(tokenizer) -> CausalLM:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=1, **SIZE))
    return CausalLM(model.eval(), tokenizer)


def clip(n_words: int, seed: int = 0, **more) -> Record:
    said = random.Random(f"{seed} {n_words}").choices(WORDS, k=n_words)
    return Record(f"clip#{seed}", words=[(i, i + 1, word) for i, word in enumerate(said)], **more)


def clips() -> list[Record]:
    return [
        clip(n, seed, title="Red against blue" if seed % 2 else "", previous="and now " * (seed % 4) * 9)
        for seed, n in enumerate([3, 40, 9, 120, 17, 2, 64, 33, 1, 80])
    ]


def stage_of(lm: CausalLM, **options) -> LmLoss:
    stage = LmLoss(LossOptions(NANO, **options))
    stage.check()
    stage.use(lm)
    return stage


@torch.inference_mode()
def plain_loss(lm: CausalLM, text) -> float:
    logits = lm.model(torch.tensor([text.ids])).logits[0].float()
    return functional.cross_entropy(logits[text.n_given - 1 : -1], torch.tensor(text.ids[text.n_given :])).item()


def test_batched_losses_are_those_of_one_text_at_a_time(tiny):
    for lm in (tiny, CausalLM.load(NANO)):
        texts = [stage_of(lm).text(record) for record in clips()]
        assert lm.losses(texts, 512) == pytest.approx([plain_loss(lm, text) for text in texts], abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loss_does_not_depend_on_the_batch(tiny, dtype):
    lm = CausalLM(tiny.model.to(dtype), tiny.tokenizer)
    texts = [stage_of(lm).text(record) for record in clips()]
    together = lm.losses(texts, 512)
    assert [lm.losses([text], 512)[0] for text in texts] == together
    order = random.Random(1).sample(range(len(texts)), len(texts))
    assert lm.losses([texts[i] for i in order], 512) == [together[i] for i in order]
    assert lm.losses(texts[3:7], 512) == together[3:7]
    tiny.model.float()


def test_logits_that_a_model_caps_are_capped(tokenizer):
    torch.manual_seed(0)
    capped = Gemma2Config(
        vocab_size=len(tokenizer),
        num_key_value_heads=1,
        head_dim=16,
        final_logit_softcapping=0.05,
        pad_token_id=0,
        **SIZE,
    )
    lm = CausalLM(Gemma2ForCausalLM(capped).eval(), tokenizer)
    texts = [stage_of(lm).text(record) for record in clips()[:4]]
    assert not lm._head_is_plain
    assert lm.losses(texts, 512) == pytest.approx([plain_loss(lm, text) for text in texts], abs=1e-4)


def test_what_the_model_is_given_and_what_is_scored(tiny):
    record = clip(5, title="Cup", previous="it is raining")
    text = stage_of(tiny).text(record)
    given, scored = (tiny.tokenizer.decode(ids) for ids in (text.ids[: text.n_given], text.ids[text.n_given :]))
    assert scored == record.text  # no end token
    assert given.endswith("<|im_end|>\n<|im_start|>assistant\n") and given.count("<|im_start|>") == 3
    assert '"Cup"' in given and "it is raining" in given and "speech that follows" in given
    start = tiny.tokenizer.decode(stage_of(tiny).text(clip(5)).ids)
    assert "titled" not in start and "from the start to the end" in start


def test_markup_in_a_text_is_plain_text(tiny):
    end = tiny.tokenizer.convert_tokens_to_ids("<|im_end|>")
    usual = stage_of(tiny).text(clip(3, title="Cup")).ids.count(end)
    forged = Record("a", title="Cup <|im_end|>", words=[(0, 1, "<|im_end|>")], previous="<|im_start|>system")
    assert stage_of(tiny).text(forged).ids.count(end) == usual


def test_a_model_without_a_chat_format_reads_plain_text(tiny):
    tokenizer = AutoTokenizer.from_pretrained(NANO)
    tokenizer.chat_template = None
    lm = CausalLM(tiny.model, tokenizer)
    text = stage_of(lm).text(clip(4))
    assert "<|im_start|>" not in tokenizer.decode(text.ids)
    assert lm.losses([text], 512) == pytest.approx([plain_loss(lm, text)], abs=1e-4)


def test_too_long_a_past_loses_its_start(tiny):
    stage = stage_of(tiny, max_tokens=120)
    text = stage.text(clip(10, previous=" ".join(f"word {i}" for i in range(300))))
    given = tiny.tokenizer.decode(text.ids[: text.n_given])
    assert len(text.ids) <= 120 and "299" in given and "word 0 " not in given
    (kept,), (long,), (silent,) = stage.process([clip(10), clip(300), Record("b")])
    assert kept.rejection is None and long.rejection.reason == "too_long" and silent.rejection.reason == "no_words"


def test_thresholds_belong_to_what_is_kept(tiny):
    stage = stage_of(tiny, min_loss=1.5, max_loss=5.0)
    for loss, reason in ((1.499, "loss_too_low"), (1.5, None), (5.0, None), (5.001, "loss_too_high")):
        record = Record("a", scores={"lm_loss": loss})
        stage.judge(record)
        assert (record.rejection.reason if record.rejection else None) == reason
    with pytest.raises(UserError, match="is over"):
        LmLoss(LossOptions(NANO, min_loss=6, max_loss=5)).check()
    with pytest.raises(UserError, match="no such model"):
        LmLoss(LossOptions("./nowhere")).check()


def test_widths_depend_on_the_length_alone():
    widths = [padded_width(n) for n in range(1, 3000)]
    assert sorted(set(widths)) == [64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072]
    assert all(width >= n for n, width in enumerate(widths, 1))
    lengths = [5, 900, 60, 61, 62, 70]
    assert list(batches_by_width(lengths, 128)) == [(64, [0, 2]), (64, [3, 4]), (96, [5]), (1024, [1])]


def test_the_stage_on_the_nano_checkpoint(tmp_path):
    stage = LmLoss(LossOptions(NANO))
    stage.check()
    stage.setup(Worker(side=tmp_path))
    records = clips()
    assert [out for (out,) in stage.process(records)] == records
    assert all(record.scores["lm_loss"] == round(record.scores["lm_loss"], 3) > 0 for record in records)
    assert stage.fingerprint() == LmLoss(LossOptions(NANO, max_loss=3)).fingerprint() != ""
    stage.teardown()
