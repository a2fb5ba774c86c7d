"""Losses of transcripts: those of a plain loop, each text's own whatever is read with it."""

import random
from itertools import pairwise

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from data.production.language_model.block_reader import WIDTH
from data.production.language_model.causal_lm import CausalLM, batches_by_width, padded_width
from data.production.lm_loss import LmLoss, LossOptions, left_out
from data.production.record import Record
from data.production.stage import Worker
from tests.production import NANO, WORDS
from utils.errors import UserError

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


@pytest.fixture(scope="module")
def nano() -> CausalLM:
    return CausalLM.load(NANO)


@pytest.fixture(scope="module")
def window(tokenizer) -> CausalLM:
    """A model that cannot go on behind a cache that is cut off."""
    torch.manual_seed(0)
    config = MistralConfig(vocab_size=len(tokenizer), num_key_value_heads=1, sliding_window=48, **SIZE)
    return CausalLM(MistralForCausalLM(config).eval(), tokenizer)


def clip(n_words: int, seed: int = 0, **more) -> Record:
    said = random.Random(f"{seed} {n_words}").choices(WORDS, k=n_words)
    return Record(f"clip#{seed}", words=[(i, i + 1, word) for i, word in enumerate(said)], **more)


def clips() -> list[Record]:
    return [
        clip(n, seed, title="Red against blue" if seed % 2 else "", previous="and now " * (seed % 4) * 9)
        for seed, n in enumerate([3, 40, 9, 120, 17, 2, 64, 33, 1, 80])
    ]


def video(n_clips: int, seed: int = 0) -> list[Record]:
    """Clips of one video, each with all that was said before it."""
    records = [clip(30 + 7 * i, seed * 100 + i, title=f"Match {seed}") for i in range(n_clips)]
    for before, record in pairwise(records):
        record.previous = f"{before.previous} {before.text}".strip()
    return records


def stage_of(lm: CausalLM, **options) -> LmLoss:
    stage = LmLoss(LossOptions(NANO, **options))
    stage.check()
    stage.use(lm)
    return stage


@torch.inference_mode()
def plain_loss(lm: CausalLM, text) -> float:
    logits = lm.model(torch.tensor([text.ids])).logits[0].float()
    return functional.cross_entropy(logits[text.n_given - 1 : -1], torch.tensor(text.ids[text.n_given :])).item()


@pytest.mark.parametrize("previous_in", ["request", "answer"])
def test_losses_are_those_of_one_text_at_a_time(previous_in, tiny, nano, window):
    for lm, is_whole in ((tiny, False), (nano, False), (window, True)):
        assert bool(lm.reads_whole) == is_whole
        texts = [stage_of(lm, previous_in=previous_in).text(record) for record in [*clips(), *video(8)]]
        assert max(len(text.ids) for text in texts) > 4 * WIDTH
        assert lm.losses(texts, 512) == pytest.approx([plain_loss(lm, text) for text in texts], abs=4e-6)


@pytest.mark.parametrize("previous_in", ["request", "answer"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["tiny", "nano", "window"])
def test_a_loss_does_not_depend_on_what_else_is_read(name, dtype, previous_in, request):
    loaded = request.getfixturevalue(name)

    def read_anew(some, tokens_per_batch=512):
        return CausalLM(loaded.model, loaded.tokenizer).losses(some, tokens_per_batch)

    lm = CausalLM(loaded.model.to(dtype), loaded.tokenizer)
    texts = [stage_of(lm, previous_in=previous_in).text(record) for record in [*video(5, 1), *clips(), *video(4, 2)]]
    together = lm.losses(texts, 512)
    assert bool(lm.reads_whole) == (name == "window")
    assert [read_anew([text])[0] for text in texts] == together  # nothing was read before
    assert [lm.losses([text], 512)[0] for text in reversed(texts)] == together[::-1]  # the same model goes on
    order = random.Random(1).sample(range(len(texts)), len(texts))
    assert read_anew([texts[i] for i in order]) == [together[i] for i in order]
    assert read_anew(texts[3:7]) == together[3:7]
    assert read_anew([texts[4], texts[4]]) == [together[4]] * 2
    loaded.model.float()


def test_a_text_that_fails_half_way_leaves_nothing_to_the_next(tiny):
    texts = [stage_of(tiny).text(record) for record in video(6)]
    lm = CausalLM(tiny.model, tiny.tokenizer)
    expected = lm.losses(texts, 512)
    layer = lm.model.base_model.layers[1]
    hook = layer.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(RuntimeError("no memory")))
    with pytest.raises(RuntimeError, match="no memory"):
        lm.losses(texts[-1:], 512)
    hook.remove()
    assert lm.losses(texts, 512) == expected


def n_read(lm: CausalLM, texts: list) -> int:
    """How many tokens the model reads for the losses of the texts, of which it has read none."""
    lm = CausalLM(lm.model, lm.tokenizer)
    assert lm.reads_whole == ""  # asked here, since it reads as well
    sizes = []
    hook = lm.model.base_model.register_forward_pre_hook(
        lambda _, __, given: sizes.append(given["input_ids"].numel()), with_kwargs=True
    )
    lm.losses(texts, 64)
    hook.remove()
    return sum(sizes)


def test_earlier_speech_is_read_once(tiny):
    texts = [stage_of(tiny).text(record) for record in video(10)]
    together = n_read(tiny, texts)
    assert together < 0.6 * sum(len(text.ids) for text in texts)
    assert together < sum(2 * (len(text.ids) - text.n_given) + 2 * WIDTH for text in texts)
    mixed = [record for pair in zip(video(10), video(10, 1), strict=True) for record in pair]
    assert n_read(tiny, [stage_of(tiny).text(record) for record in mixed]) < 2.1 * together


def test_words_that_begin_the_answer_are_read_once(tiny):
    stages = [stage_of(tiny, previous_in=place) for place in ("request", "answer")]
    texts, begun = ([stage.text(record) for record in video(8)] for stage in stages)
    for text, other, record in zip(texts, begun, video(8), strict=True):
        assert tiny.tokenizer.decode(other.ids[other.n_given :]).strip() == record.text
        assert tiny.tokenizer.decode(other.ids).endswith(f"{record.previous} {record.text}".strip())
        assert len(other.ids) - other.n_given == len(text.ids) - text.n_given or not record.previous
    assert n_read(tiny, begun) < 0.8 * n_read(tiny, texts)


def test_a_model_with_a_window_reads_whole_texts_and_says_so(window, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(CausalLM, "load", lambda *_: window)
    LmLoss(LossOptions(NANO)).setup(Worker(side=tmp_path))
    assert "not all of its layers attend to all that was before" in capsys.readouterr().err


def test_a_model_that_forgets_its_cache_reads_whole_texts(tokenizer):
    class Forgetful(Qwen2ForCausalLM):
        @property
        def base_model(self):
            return lambda past_key_values=None, attention_mask=None, **given: self.model(**given)

    torch.manual_seed(0)
    lm = CausalLM(Forgetful(Qwen2Config(vocab_size=len(tokenizer), num_key_value_heads=1, **SIZE)).eval(), tokenizer)
    texts = [stage_of(lm).text(record) for record in video(3)]
    assert lm.reads_whole
    assert lm.losses(texts, 512) == pytest.approx([plain_loss(lm, text) for text in texts], abs=4e-6)


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
    assert "logits are more" in lm.reads_whole
    assert lm.losses(texts, 512) == pytest.approx([plain_loss(lm, text) for text in texts], abs=4e-6)


def test_what_the_model_is_given_and_what_is_scored(tiny):
    record = clip(5, title="Cup", previous="it is raining")
    text = stage_of(tiny).text(record)
    given, scored = (tiny.tokenizer.decode(ids) for ids in (text.ids[: text.n_given], text.ids[text.n_given :]))
    assert scored == record.text  # no end token
    # Earlier speech is last: what follows it is not shared with later clips.
    assert given.endswith("it is raining<|im_end|>\n<|im_start|>assistant\n") and given.count("<|im_start|>") == 3
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
    assert lm.losses([text], 512) == pytest.approx([plain_loss(lm, text)], abs=4e-6)


def test_too_long_a_past_loses_its_start(tiny):
    stage = stage_of(tiny, max_tokens=120)
    text = stage.text(clip(10, previous=" ".join(f"word {i}" for i in range(300))))
    given = tiny.tokenizer.decode(text.ids[: text.n_given])
    assert len(text.ids) <= 120 and "299" in given and "word 0 " not in given
    (kept,), (long,), (silent,) = stage.process([clip(10), clip(300), Record("b")])
    assert kept.rejection is None and long.rejection.reason == "too_long" and silent.rejection.reason == "no_words"


def test_clips_of_a_long_video_lose_the_same_start(tiny):
    stage = stage_of(tiny, max_tokens=400)
    records = [clip(10, previous=" ".join(f"word {i}" for i in range(300 + 5 * k))) for k in range(12)]
    texts = [stage.text(record) for record in records]
    assert all(len(text.ids) <= 400 for text in texts)
    assert len({tuple(text.ids[:100]) for text in texts}) <= 4
    assert [left_out(n, 1000, 80) for n in (-5, 0, 1, 10, 11)] == [0, 0, 10, 10, 20]
    assert left_out(41, 47, 80) == 41 and left_out(99, 47, 80) == 47


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
    assert sorted(set(widths)) == [*range(32, 513, 32), 768, 1024, 1536, 2048, 3072]
    assert all(width >= n for n, width in enumerate(widths, 1))
    lengths = [5, 900, 60, 61, 62, 70]
    assert list(batches_by_width(lengths, 128)) == [(32, [0]), (64, [2, 3]), (64, [4]), (96, [5]), (1024, [1])]


def test_the_stage_on_the_nano_checkpoint(tmp_path):
    stage = LmLoss(LossOptions(NANO))
    stage.check()
    stage.setup(Worker(side=tmp_path))
    records = clips()
    assert [out for (out,) in stage.process(records)] == records
    assert all(record.scores["lm_loss"] == round(record.scores["lm_loss"], 3) > 0 for record in records)
    assert stage.fingerprint() == LmLoss(LossOptions(NANO, max_loss=3)).fingerprint() != ""
    stage.teardown()
