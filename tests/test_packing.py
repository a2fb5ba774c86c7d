"""Packing: rows filled by a fixed rule and found again, equal to samples on their own in loss and gradients."""

import json
import sys
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import Dataset

from data.loading.collate import collate, pack
from data.loading.dataset import AnnotationDataset, BadSample, Example, SampleEncoder
from data.loading.loader import SURVEY_ROWS, LoaderOptions, SampleLoader
from data.loading.mixing import MixedOrder
from data.loading.order import SampleOrder
from data.loading.packing import LOOKAHEAD_ROWS, RowPacker
from data.video.frame_plan import VideoLimits
from models.load import load_checkpoint
from models.packed_attention import NAME, segment_arguments, use_packed_attention
from models.training.liger import exchange_all
from models.training.loss_average import weigh_losses
from tests.operations import WRITTEN_DOWN
from tests.samples import stream, talk, text_example, write_media, write_samples
from utils.errors import UserError

SAMPLES = [
    stream(0),
    talk(1, "pitch.png", "pitch.png"),
    talk(2),
    talk(3, "short.mp4", "pitch.png", "match.mp4"),
    stream(4, 3),
]


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    checkpoint = load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32")
    use_packed_attention(checkpoint.model)
    return checkpoint


@pytest.fixture(scope="module")
def examples(checkpoint, tmp_path_factory):
    folder = write_media(tmp_path_factory.mktemp("packing"))
    limits = VideoLimits(min_pixels=784, total_pixels=31360)
    encoder = SampleEncoder(checkpoint.chat, limits, checkpoint.position_mode)
    dataset = AnnotationDataset([write_samples(folder / "all.jsonl", SAMPLES)], encoder)
    return [dataset[i] for i in range(len(dataset))]


def update(model, batches_of_ranks, average):
    """Loss and gradients of one update as the Trainer makes it: each rank sums its batches' gradients divided by
    their number, and ranks are averaged."""
    counts = [count for batches in batches_of_ranks for batch in batches for count in batch["supervised"]]
    sums = [float(sum(count > 0 for count in counts)), float(sum(counts))]
    model.zero_grad()
    total = 0.0
    for batches in batches_of_ranks:
        weigh_losses(batches, average, lambda local: sums, len(batches_of_ranks))
        for batch in batches:
            inputs = {name: value for name, value in batch.items() if name != "sources"}
            loss = model(**inputs).loss / len(batches) / len(batches_of_ranks)
            loss.backward()
            total += float(loss.detach())
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same_update(one, other):
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        # Relative to the parameter's largest: single entries are sums that cancel.
        assert float((gradient - other[1][name]).abs().max()) <= 1e-5 * max(float(gradient.abs().max()), 1e-3), name


@pytest.fixture(params=["plain", "checkpointing", "liger's modules"])
def model(request, checkpoint, tiny_checkpoint):
    """As it is, with layers computed twice, or on modules that take Liger's operations, here written in PyTorch."""
    if request.param == "liger's modules":
        own = load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32").model.train()
        use_packed_attention(own)
        exchange_all(own, WRITTEN_DOWN)
        yield own
        return
    model = checkpoint.model.train()
    if request.param == "checkpointing":
        model.gradient_checkpointing_enable()
    yield model
    model.gradient_checkpointing_disable()


@pytest.mark.parametrize("average", ["sample", "token"])
def test_packed_equals_alone_in_loss_and_gradients(model, examples, average):
    alone = update(model, [[collate([example], 0) for example in examples]], average)
    packed = update(model, [[pack(examples)]], average)
    assert "model.visual.blocks.0.attn.qkv.weight" in packed[1] and "model.visual.merger.mlp.0.weight" in packed[1]
    assert_same_update(packed, alone)


@pytest.mark.parametrize("average", ["sample", "token"])
def test_an_update_is_the_same_however_its_samples_are_spread(checkpoint, examples, average):
    model, four = checkpoint.model.train(), examples[1:]
    whole = update(model, [[collate(four, 0)]], average)
    spreads = {
        "accumulated": [[collate(four[:2], 0), collate(four[2:], 0)]],
        "two ranks": [[collate(four[:2], 0)], [collate(four[2:], 0)]],
        "two ranks, accumulated": [[collate([e], 0) for e in four[:2]], [collate([e], 0) for e in four[2:]]],
        "packed": [[pack(four)]],
        "packed, accumulated": [[pack(four[:1]), pack(four[1:])]],
        "packed, uneven ranks": [[pack(four[:3])], [pack(four[3:])]],
    }
    for name, batches in spreads.items():
        assert_same_update(update(model, batches, average), whole), name


def test_the_two_averages_differ_and_sample_is_what_single_batches_meant(checkpoint, examples):
    model = checkpoint.model.eval()
    batches = [collate([example], 0) for example in examples]
    means = []
    for batch in batches:
        inputs = {name: value for name, value in batch.items() if name != "sources"}
        means.append(float(model(**inputs).loss.detach()))  # without weights: the mean over supervised tokens
    by_sample, by_token = (update(model, [batches], average)[0] for average in ("sample", "token"))
    assert by_sample == pytest.approx(sum(means) / len(means), rel=1e-6)
    assert abs(by_token - by_sample) > 1e-4


class LigersLoss:
    """What Liger's fused operation computes, in plain products; it takes no rows at all as little.

    The kernel itself runs in tests/operations.py.
    """

    def __init__(self, reduction: str = "mean"):
        self.reduction = reduction

    def __call__(self, weight, rows, targets):
        assert len(rows)
        return F.cross_entropy(F.linear(rows, weight), targets, reduction=self.reduction)


@pytest.mark.parametrize("average", ["sample", "token"])
def test_ligers_path_with_a_stand_in_for_its_kernel_gives_the_same_update(checkpoint, examples, average, monkeypatch):
    silent = replace(examples[2], labels=torch.full_like(examples[2].labels, -100))
    batches = [[pack([*examples[:2], silent]), pack(examples[3:4])]]
    plain = update(checkpoint.model.train(), batches, average)
    stand_in = SimpleNamespace(LigerFusedLinearCrossEntropyLoss=LigersLoss)
    monkeypatch.setitem(sys.modules, "liger_kernel", SimpleNamespace(transformers=stand_in))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", stand_in)
    monkeypatch.setattr(checkpoint.model, "use_liger", True)
    assert_same_update(update(checkpoint.model, batches, average), plain)


def test_samples_in_a_row_do_not_see_each_other(checkpoint, examples):
    model = checkpoint.model.eval()
    row = pack(examples)
    inputs = {name: row[name] for name in ("input_ids", "position_ids", "patches", "grid_thw", "segments")}
    start, stop = row["segments"][0], sum(row["segments"][:2])
    with torch.no_grad():
        before = model(**inputs).logits
        inputs["input_ids"] = inputs["input_ids"].clone()
        inputs["input_ids"][0, start + 2] += 1
        after = model(**inputs).logits
    same = (before == after).all(-1)[0]
    assert bool(same[:start].all()) and bool(same[stop:].all()) and not bool(same[start + 2 : stop].all())


def test_positions_restart_and_first_tokens_are_no_labels(examples):
    labelled = [Example(**{**vars(example), "labels": example.input_ids.clone()}) for example in examples]
    row, at = pack(labelled), 0
    assert row["input_ids"].shape == (1, sum(row["segments"])) and row["position_ids"].shape[:2] == (3, 1)
    for example, length, count in zip(labelled, row["segments"], row["supervised"], strict=True):
        assert torch.equal(row["position_ids"][:, 0, at : at + length], example.position_ids)
        assert int((row["labels"][0, at : at + length][1 if at == 0 else 0 :] != -100).sum()) == count == length - 1
        at += length


def test_no_mask_is_made_and_each_product_is_one_sample(checkpoint, examples, monkeypatch):
    import models.packed_attention as packed_attention

    seen, original = [], packed_attention.sdpa_attention_forward

    def watched(module, query, key, value, mask, **options):
        seen.append((query.shape[2], key.shape[2], mask))
        return original(module, query, key, value, mask, **options)

    monkeypatch.setattr(packed_attention, "sdpa_attention_forward", watched)
    row = pack(examples)
    inputs = {name: row[name] for name in ("input_ids", "position_ids", "patches", "grid_thw", "segments")}
    with torch.no_grad():
        checkpoint.model.eval()(**inputs)
    n_layers = len(checkpoint.model.model.language_model.layers)
    assert seen == [(length, length, None) for length in row["segments"]] * n_layers


def test_attention_that_cannot_keep_samples_apart_is_refused(tiny_checkpoint, examples):
    model = load_checkpoint(tiny_checkpoint, device="cpu", attn_implementation="eager").model
    with pytest.raises(UserError, match=r"--attn_implementation eager.*see each other"):
        use_packed_attention(model)
    row = pack(examples[:2])
    with pytest.raises(ValueError, match="use_packed_attention"):
        model(row["input_ids"], row["position_ids"], segments=row["segments"])


def test_the_choice_of_attention_is_not_saved(checkpoint, tmp_path):
    checkpoint.model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()


def test_flash_attention_is_given_the_borders():
    text = SimpleNamespace(config=SimpleNamespace(_attn_implementation="flash_attention_2"))
    model = SimpleNamespace(model=SimpleNamespace(language_model=text))
    use_packed_attention(model)  # as it is
    given = segment_arguments(model, [3, 5, 2], torch.device("cpu"))
    assert given["cu_seq_lens_q"].tolist() == given["cu_seq_lens_k"].tolist() == [0, 3, 8, 10]
    assert given["cu_seq_lens_q"].dtype == torch.int32 and given["max_length_q"] == given["max_length_k"] == 5
    assert segment_arguments(model, None, torch.device("cpu")) == {}


def test_averages_without_supervised_tokens():
    batches = [{"supervised": [0, 2]}, {"supervised": [0]}]
    weigh_losses(batches, "sample", lambda local: local, 1)
    assert [batch["loss_weights"] for batch in batches] == [[0.0, 1.0], [0.0]]
    weigh_losses(batches[1:], "token", lambda local: local, 1)
    assert batches[1]["loss_weights"] == [0.0]


# Rows


class Lengths(Dataset):
    """Sample i has lengths[i] tokens, all of them i; those in `bad` cannot be used."""

    def __init__(self, lengths: list[int], bad: tuple[int, ...] = ()):
        self.lengths, self.bad = lengths, bad

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> Example | BadSample:
        if i in self.bad:
            return BadSample("lengths.jsonl", i + 1, "missing_file", f"lengths.jsonl:{i + 1}: no video")
        return text_example(torch.full((self.lengths[i],), i))


def random_lengths(n: int, seed: int = 0) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, 100, (n,), generator=generator).tolist()


def numbers_of(examples: list[Example]) -> list[int]:
    return [int(example.input_ids[0]) for example in examples]


def make_loader(dataset, rank=0, world=1, order=None, **options) -> SampleLoader:
    order = order or SampleOrder(len(dataset), 0, rank, world)
    options = {"batch_size": 1, "max_bad_samples": 0.9, "max_tokens": 128, "batches_per_epoch": 10**6, **options}
    return SampleLoader(dataset, order, numbers_of, LoaderOptions(**options))


def rows_of(loader: SampleLoader, n: int) -> list[list[int]]:
    return list(islice(iter(loader), n))


def rows_from(lengths: list[int], max_tokens: int, lookahead: int = 64) -> list[list[int]]:
    """Rows of places until the first sample that is not there is drawn."""
    dataset, packer = Lengths(lengths), RowPacker(max_tokens, lookahead)
    places = iter(range(len(lengths)))
    rows = []
    while True:
        try:
            row = packer.next_row(lambda: (place := next(places), dataset[place]))
        except StopIteration:
            return rows
        rows.append([place for place, _ in row])


def test_the_oldest_opens_a_row_and_the_longest_that_fits_comes_next():
    assert rows_from([50, 90, 30, 40, 50, 10, 10] + [60] * 10, 100, lookahead=5)[:4] == [
        [0, 4],
        [1, 5],
        [2, 7, 6],
        [3, 8],
    ]


def test_a_sample_over_the_budget_has_its_own_row():
    assert rows_from([150, 30, 30] + [100] * 8, 100, lookahead=2)[:2] == [[0], [1, 2]]


def test_rows_are_full_and_hold_every_sample_once_without_long_waits():
    lengths = random_lengths(600)
    rows = rows_of(make_loader(Lengths(lengths)), 150)
    order = list(islice(SampleOrder(600).from_position(0), 600))
    drawn = [i for row in rows for i in row]
    assert len(set(drawn)) == len(drawn)
    filled = [sum(lengths[i] for i in row) for row in rows]
    assert max(filled) <= 128 and sum(filled) / len(filled) > 0.95 * 128  # first come, first served fills 71 %
    for number, row in enumerate(rows):
        oldest = sum(map(len, rows[:number]))
        assert order.index(row[0]) <= oldest and max(order.index(i) for i in row) < oldest + 64


def test_what_is_held_is_bounded():
    loader = make_loader(Lengths([20] * 400), max_tokens=100)
    rows_of(loader, 3)
    assert 0 < sum(20 for _ in loader.packer.held) <= LOOKAHEAD_ROWS * 100 + 20


def test_a_row_holds_at_most_one_pass_of_a_small_file():
    loader = make_loader(Lengths([10] * 4), max_tokens=10**6)
    assert [sorted(row) for row in rows_of(loader, 5)] == [[0, 1, 2, 3]] * 5 and len(loader.packer.held) <= 4


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 4, 17])
def test_resume_is_exact(done, workers):
    dataset = Lengths(random_lengths(90), bad=(3, 8, 40))
    whole = rows_of(make_loader(dataset), 40)
    first = make_loader(dataset, num_workers=workers)
    assert rows_of(first, done) == whole[:done]
    state = json.loads(json.dumps(first.state_dict()))
    first.close()
    second = make_loader(dataset, num_workers=workers)
    second.load_state_dict(state)
    assert json.loads(json.dumps(second.state_dict())) == state  # also before the first row
    assert rows_of(second, 40 - done) == whole[done:]
    assert second.totals["samples"] == sum(map(len, whole)) and second.bad.seen == second.position
    second.close()


def test_resume_is_exact_with_a_mix():
    dataset, order = Lengths(random_lengths(90)), MixedOrder((60, 30), (0.25, 0.75), 3)
    whole = rows_of(make_loader(dataset, order=order), 40)
    first = make_loader(dataset, order=order)
    rows_of(first, 11)
    second = make_loader(dataset, order=order)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert rows_of(second, 29) == whole[11:]


def test_a_held_sample_that_has_gone_bad_is_counted_and_left_out():
    loader = make_loader(Lengths(random_lengths(50)))
    rows_of(loader, 2)
    gone = int(loader.packer.held[0][1].input_ids[0])
    again = make_loader(Lengths(random_lengths(50), bad=(gone,)))
    again.load_state_dict(loader.state_dict())
    rows_of(again, 1)
    assert again.bad.n_bad == 1 and gone not in numbers_of([example for _, example in again.packer.held])


def test_another_number_of_ranks_leaves_no_sample_out(caplog):
    dataset = Lengths([30] * 200)
    loader = make_loader(dataset, 0, 2)
    handed_out = [i for row in rows_of(loader, 10) for i in row]
    again = make_loader(dataset, 0, 1)
    again.load_state_dict(loader.state_dict(), updates=10)
    assert again.position == 2 * len(handed_out) and "drawn anew" in caplog.text


def test_an_epoch_is_estimated_alike_on_every_rank_and_costs_no_sample():
    lengths = random_lengths(400)
    loaders = [make_loader(Lengths(lengths), rank, 2, batches_per_epoch=None, accumulation=4) for rank in range(2)]
    with pytest.raises(ValueError, match="survey"):
        len(loaders[0])
    parts = []
    for loader in loaders:
        loader.survey(lambda local: parts.append(local) or local)
        loader.batches_per_epoch = None
    summed = [sum(column) for column in zip(*parts, strict=True)]
    for loader in loaders:
        loader.survey(lambda local: summed)
    assert len(loaders[0]) == len(loaders[1]) and len(loaders[0]) % 4 == 0
    exact = sum(lengths) / 128 / 2
    assert 0.8 * exact < len(loaders[0]) < 1.3 * exact
    fresh = make_loader(Lengths(lengths), 0, 2)
    assert rows_of(loaders[0], 30) == rows_of(fresh, 30)  # the rows looked at come first, unchanged
    assert SURVEY_ROWS < 30


def test_the_length_of_an_epoch_is_kept_over_a_resume():
    dataset = Lengths(random_lengths(100))
    loader = make_loader(dataset, batches_per_epoch=None)
    loader.survey(lambda local: local)
    epochs = [list(loader), list(loader)]
    state = json.loads(json.dumps(loader.state_dict()))
    again = make_loader(dataset, batches_per_epoch=None)
    again.load_state_dict(state, updates=2 * len(loader))
    again.survey(lambda local: pytest.fail("the length is known"))
    assert len(again) == len(loader) == len(epochs[0]) == len(epochs[1]) and len(list(again)) == len(loader)
    assert 1.5 < loader.epochs_drawn < 2.5
