"""The loader: fixed order, bad samples replaced by the next good one, exact resume, workers, limits."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import chain, islice

import psutil
import pytest
import torch
from torch.utils.data import Dataset

from data.loading.bad_samples import BadSampleLog, TooManyBadSamples, write_report
from data.loading.dataset import BadSample, Example
from data.loading.loader import SHARED_FROM_BYTES, LoaderOptions, SampleLoader, size_of
from data.loading.mixing import MixedOrder
from data.loading.order import SampleOrder
from tests.conftest import REPOSITORY as ROOT
from tests.waiting import PATIENCE_S
from utils.errors import UserError


class Numbers(Dataset):
    """Sample i is the tokens [i, i, 7]; those in `bad` cannot be used."""

    def __init__(self, n: int, bad: tuple[int, ...] = (), patches: int = 4):
        self.n, self.bad, self.patches = n, bad, patches

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Example | BadSample:
        if i in self.bad:
            return BadSample("numbers.jsonl", i + 1, "missing_file", f"numbers.jsonl:{i + 1}: no video")
        return Example(
            input_ids=torch.tensor([i, i, 7]),
            labels=torch.tensor([-100, i, 7]),
            position_ids=torch.zeros(3, 3, dtype=torch.long),
            patches=torch.full((self.patches, 1176), i % 256, dtype=torch.uint8),
            grid_thw=torch.tensor([[1, 2, self.patches // 2]]),
            kinds=["image"],
            frame_times_s=torch.zeros(0, dtype=torch.float64),
            chat_text="",
            counts={"words_dropped": 1},
        )


def numbers_of(examples: list[Example]) -> list[int]:
    return [int(example.input_ids[0]) for example in examples]


def make_loader(dataset: Dataset, rank: int = 0, world: int = 1, seed: int = 0, **options) -> SampleLoader:
    order = SampleOrder(len(dataset), seed, rank, world)
    options = LoaderOptions(**{"batch_size": 2, "max_bad_samples": 0.9, **options})
    return SampleLoader(dataset, order, numbers_of, options)


def take(loader: SampleLoader, n: int) -> list[list[int]]:
    epochs = chain.from_iterable(iter(loader) for _ in range(n))
    return list(islice(epochs, n))


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_workers_stay_within_a_limit_of_bytes(start_method):
    """The reader waits until the workers are as far ahead as they can get."""
    dataset, limit = Numbers(12, patches=1000), 3_000_000
    bytes_each = size_of(dataset[0])
    assert 2 * bytes_each < limit < 3 * bytes_each
    options = {"num_workers": 2, "prefetch_factor": 8, "batch_size": 1, "start_method": start_method}
    expected = take(make_loader(dataset, batch_size=1), 12)
    unbounded = make_loader(dataset, prefetch_bytes=10**12, **options)
    bounded = make_loader(dataset, prefetch_bytes=limit, **options)
    most = {}
    for loader in (unbounded, bounded):
        iterator, drawn = iter(loader), []
        for n in range(12):
            drawn.append(next(iterator))
            deadline = time.monotonic() + PATIENCE_S
            # Without a limit they get far ahead; with one, a wait for what must not come would never end.
            wanted = (8 if loader is unbounded else 2) * bytes_each
            while n == 0 and loader.budget.most_ready < wanted and time.monotonic() < deadline:
                time.sleep(0.01)
        assert drawn == expected
        most[loader is bounded] = loader.budget.most_ready
        loader.close()
    # The one that is taken next comes through in any case.
    assert 2 * bytes_each <= most[True] <= limit + bytes_each and most[False] >= 8 * bytes_each


def test_a_sample_over_the_limit_still_comes_through():
    dataset = Numbers(6, patches=1000)
    loader = make_loader(dataset, num_workers=2, prefetch_bytes=1)
    assert take(loader, 6) == take(make_loader(dataset), 6)
    assert loader.budget.most_ready <= 2 * size_of(dataset[0])
    loader.close()


def test_closing_does_not_wait_for_workers_that_have_no_room():
    loader = make_loader(Numbers(6, patches=1000), num_workers=2, prefetch_bytes=1)
    take(loader, 1)
    workers = loader._stream._workers
    assert len(workers) == 2 and all(worker.is_alive() for worker in workers)
    loader.close()
    assert [worker.exitcode for worker in workers] == [0, 0], (
        "they end by themselves, and are not waited for and killed"
    )


KILLED_READER = """
import os, select, signal, time
from tests.test_loader import Numbers, make_loader, take
loader = make_loader(Numbers(40, patches=100), num_workers=2, prefetch_factor=8, prefetch_bytes={prefetch_bytes})
take(loader, 1)
results = loader._stream._worker_result_queue
while {prefetch_bytes} > 1 and select.select([], [results._writer], [], 0)[1]:
    time.sleep(0.01)  # until the pipe is full
print(*[worker.pid for worker in loader._stream._workers], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("prefetch_bytes", [1, 10**9], ids=["no room", "full pipe"])
def test_workers_end_with_a_killed_reader(prefetch_bytes):
    code = KILLED_READER.format(prefetch_bytes=prefetch_bytes)
    # Not run(): the workers have its standard output too, and it would wait for them.
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT) as reader:
        pids = [int(word) for word in reader.stdout.readline().split()]
    assert len(pids) == 2
    deadline = time.monotonic() + PATIENCE_S
    while any(map(is_at_work, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    outlived = [pid for pid in pids if is_at_work(pid)]
    for pid in outlived:
        os.kill(pid, signal.SIGKILL)
    assert not outlived


def is_at_work(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_batches_follow_the_order_over_epochs():
    loader = make_loader(Numbers(7))
    assert len(loader) == 4  # the last of one sample
    expected = list(islice(SampleOrder(7).from_position(0), 16))
    assert list(chain(*take(loader, 9))) == expected


def test_a_bad_samples_place_goes_to_the_next_good_one():
    loader = make_loader(Numbers(8, bad=(2, 5)))
    drawn = list(chain(*take(loader, 6)))
    order = list(islice(SampleOrder(8).from_position(0), 40))
    assert drawn == [i for i in order if i not in (2, 5)][:12]
    assert loader.bad.by_cause() == {"missing_file": loader.bad.n_bad}
    assert loader.bad.seen == loader.bad.n_bad + 12 == loader.position


def test_ranks_stay_in_step_when_one_meets_bad_samples():
    bad = tuple(islice(SampleOrder(16, 0, 1, 2).from_position(0), 4))
    loaders = [make_loader(Numbers(16, bad), rank, 2) for rank in range(2)]
    assert [len(list(loader)) for loader in loaders] == [4, 4]
    assert loaders[0].bad.n_bad == 0 and loaders[1].bad.n_bad == 4


class Signed(Numbers):
    """Each sample says which process made it."""

    def __getitem__(self, i: int) -> Example | BadSample:
        item = super().__getitem__(i)
        return item if isinstance(item, BadSample) else dataclasses.replace(item, chat_text=str(os.getpid()))


def test_workers_deliver_the_same_batches():
    makers = []

    def note(examples: list[Example]) -> list[int]:
        makers.extend(example.chat_text for example in examples)
        return numbers_of(examples)

    dataset = Signed(9, bad=(4,))
    loader = make_loader(dataset, num_workers=2)
    loader.collate = note
    assert take(loader, 8) == take(make_loader(dataset), 8)
    assert len(set(makers)) == 2 and str(os.getpid()) not in makers
    loader.close()


@pytest.mark.parametrize("patches", [4, SHARED_FROM_BYTES // 1176 + 4])
def test_examples_come_unchanged_from_workers(patches):
    dataset = Numbers(3, patches=patches)
    order = SampleOrder(3)
    loader = SampleLoader(dataset, order, lambda examples: examples[0], LoaderOptions(num_workers=1))
    example, expected = next(iter(loader)), dataset[next(order.from_position(0))]
    loader.close()
    for name, value in vars(expected).items():
        got = getattr(example, name)
        assert torch.equal(got, value) if isinstance(value, torch.Tensor) else got == value


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("done", [1, 3, 4, 7])
def test_resume_is_exact(done, workers):
    dataset = Numbers(11, bad=(3, 8))
    whole = take(make_loader(dataset), 12)
    first = make_loader(dataset, num_workers=workers)
    assert take(first, done) == whole[:done]
    state = json.loads(json.dumps(first.state_dict()))
    first.close()
    second = make_loader(dataset, num_workers=workers)
    second.load_state_dict(state)
    assert take(second, 12 - done) == whole[done:]
    assert second.totals["samples"] == 22 and second.bad.seen == second.position
    second.close()


def test_a_resumed_epoch_has_what_is_left_of_it():
    loader = make_loader(Numbers(10))
    take(loader, 7)
    again = make_loader(Numbers(10))
    again.load_state_dict(loader.state_dict())
    assert [len(list(again)), len(list(again))] == [3, 5]


def test_resume_with_other_processes_goes_on_from_the_same_place(caplog):
    loader = make_loader(Numbers(40), 0, 2)
    take(loader, 5)
    again = make_loader(Numbers(40), 0, 1, accumulation=2)
    again.load_state_dict(loader.state_dict(), updates=5)
    assert again.position == 20 and again.batches == 10
    assert "2 processes and goes on with 1" in caplog.text


def test_resume_on_other_data_is_refused():
    state = make_loader(Numbers(10)).state_dict()
    with pytest.raises(UserError, match=r"10 samples with seed 0, this run has 11 .*overwrite_output_dir"):
        make_loader(Numbers(11)).load_state_dict(state)


def test_resume_on_another_mix_is_refused():
    state = make_loader(Numbers(10)).state_dict()
    mixed = SampleLoader(Numbers(10), MixedOrder((4, 6), (1, 1)), numbers_of, LoaderOptions(2))
    with pytest.raises(
        UserError, match=r"by size \(10 samples.*of \[4, 6\] samples with weights .*--annotation_weights"
    ):
        mixed.load_state_dict(state)
    reweighted = SampleLoader(Numbers(10), MixedOrder((4, 6), (1, 2)), numbers_of, LoaderOptions(2))
    with pytest.raises(UserError, match=r"weights \[1.0, 1.0\].*weights \[1.0, 2.0\]"):
        reweighted.load_state_dict(json.loads(json.dumps(mixed.state_dict())))
    reweighted.load_state_dict(reweighted.state_dict())


def test_resume_does_not_touch_the_global_random_state():
    before = torch.random.get_rng_state()
    take(make_loader(Numbers(5)), 4)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("n", "world", "batch", "accumulation", "batches"),
    [(100, 1, 4, 1, 25), (100, 8, 4, 1, 4), (24, 1, 5, 3, 5), (10, 1, 4, 8, 3), (2, 8, 4, 4, 1), (3, 2, 4, 1, 1)],
)
def test_an_epoch_has_every_sample_on_its_ranks(n, world, batch, accumulation, batches):
    """Batches of each rank; a place that the ranks do not divide goes to the next pass, and none is left out."""
    seen = []
    for rank in range(world):
        loader = make_loader(Numbers(n), rank, world, batch_size=batch, accumulation=accumulation)
        epochs = [list(loader) for _ in range(3)]
        assert [sum(map(len, epoch)) for epoch in epochs] == [-(-n // world)] * 3, "an epoch is one pass"
        drawn = [batch for epoch in epochs for batch in epoch]
        assert len(drawn) == 3 * batches and max(map(len, drawn)) <= batch
        seen.append([number for batch in drawn for number in batch])
    drawn = [number for together in zip(*seen, strict=True) for number in together]
    for number in range(3):
        assert sorted(drawn[number * n : (number + 1) * n]) == list(range(n))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "memory ran out: lower --dataloader_num_workers 1"),
        ("unable to write to file </torch_7_1>: No space left on device (28)", "/dev/shm is full .*--shm-size"),
    ],
)
def test_a_machine_that_is_too_small_is_said(said, message):
    loader = make_loader(Numbers(4), num_workers=1)

    def fail():
        raise RuntimeError(said)
        yield

    loader._stream = fail()
    with pytest.raises(UserError, match=message):
        take(loader, 1)


def test_totals_count_tokens():
    loader = make_loader(Numbers(6, patches=8))
    take(loader, 3)
    assert loader.totals == {"samples": 6, "tokens": 18, "supervised_tokens": 12, "visual_tokens": 12}
    assert loader.bad.counts == Counter(words_dropped=6)


def test_too_many_bad_samples_stop_the_run_after_one_pass():
    loader = make_loader(Numbers(10, bad=(1, 2, 3)), max_bad_samples=0.2)
    with pytest.raises(TooManyBadSamples, match=r"3 of 10 .*missing_file 3.*--max_bad_samples 0.2.*jsonl:\d"):
        take(loader, 50)
    assert loader.bad.seen == 10


def test_few_bad_samples_do_not_stop_a_long_file_early():
    loader = make_loader(Numbers(1000, bad=tuple(islice(SampleOrder(1000).from_position(0), 3))))
    loader.bad.limit = 0.02
    take(loader, 70)  # 140 samples: too few to judge by
    with pytest.raises(TooManyBadSamples, match="3 of 143"):
        loader.bad.check()


def test_nothing_but_bad_samples_ends():
    with pytest.raises(TooManyBadSamples, match="4 of 4"):
        take(make_loader(Numbers(4, bad=(0, 1, 2, 3))), 1)


def test_a_bad_sample_is_logged_once_and_listed_once(caplog, tmp_path):
    loader = make_loader(Numbers(4, bad=(2,)))
    take(loader, 6)
    assert loader.bad.n_bad > 1 and caplog.text.count("skipped (missing_file) numbers.jsonl:3") == 1
    other = BadSampleLog(0.9)
    other.add(BadSample("numbers.jsonl", 3, "missing_file", "no video"))
    other.add(BadSample("more.jsonl", 9, "broken_video", "cut short"))
    write_report(tmp_path / "new" / "report.json", [loader.bad, other])
    report = json.loads((tmp_path / "new" / "report.json").read_text())
    assert [(s["path"], s["line_no"]) for s in report["samples"]] == [("numbers.jsonl", 3), ("more.jsonl", 9)]
    assert report["samples"][0]["times"] == loader.bad.n_bad + 1
    assert report["samples_seen"] == loader.bad.seen + 2 and not report["stopped_the_run"]
    assert report["by_cause"] == {"missing_file": loader.bad.n_bad + 1, "broken_video": 1}
