"""Samples in order -> batches for one process: bad ones skipped, packed or not, resumable after any batch."""

import dataclasses
import functools
import itertools
import json
import logging
import math
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from data.loading.bad_samples import JUDGED_FROM, BadSampleLog
from data.loading.byte_budget import ByteBudget
from data.loading.dataset import BadSample, Example
from data.loading.mixing import MixedOrder
from data.loading.order import SampleOrder
from data.loading.packing import LOOKAHEAD, RowPacker
from data.samples.conversation import IGNORED
from data.samples.patches import grid_tokens
from utils.errors import UserError

logger = logging.getLogger(__name__)

# A worker hands larger arrays over in shared memory. Smaller ones travel by pipe: a shared tensor costs an
# open file for as long as it lives, and a batch of small clips holds hundreds of them.
SHARED_FROM_BYTES = 1 << 20
OWNER_CHECK_S = 1.0
SHARED_MEMORY = "/dev/shm"
NO_SHARED_MEMORY = ("No space left on device", "unable to allocate shared memory", "unable to write to file </torch")
SURVEY_ROWS = 8  # packed rows of each process from which the length of an epoch is estimated


@dataclasses.dataclass(frozen=True)
class LoaderOptions:
    """How samples become batches, and how many processes read them.

    batch_size: samples that make a batch; max_tokens: in its place, of a packed row. accumulation: batches of one
    update. batches_per_epoch: of a run of a fixed number of steps; None: as many as the data gives. max_bad_samples:
    largest share, in 0..1. prefetch_factor, start_method: of torch's workers. prefetch_bytes: what workers may have
    ready, beside one sample each (data/loading/byte_budget.py); None: no limit.
    """

    batch_size: int = 1
    max_tokens: int | None = None
    accumulation: int = 1
    batches_per_epoch: int | None = None
    max_bad_samples: float = 0.01
    num_workers: int = 0
    prefetch_factor: int | None = None
    start_method: str | None = None
    prefetch_bytes: int | None = None


class SampleLoader:
    """Batches of good samples in a fixed order, one epoch per iteration.

    collate: list of Examples -> the batch: options.batch_size of them, or with max_tokens as many as
    data/loading/packing.py puts into a row. The state is the place in the order after the last batch given, and the
    places of what the packer holds; what workers decoded ahead of it is decoded again after a resume. `totals`
    counts what was handed out since the run began: samples, tokens, supervised_tokens, visual_tokens; `wait_s` is
    the time spent waiting for samples.

    How many rows an epoch has is known only when it is over. So batches_per_epoch is given (a run of a fixed number
    of steps), or estimated once by `survey` and kept in the state. Either way it is the same on every rank, and no
    rank runs out of samples, since the order has no end: ranks stay in step.
    """

    def __init__(
        self,
        dataset: Dataset,
        order: SampleOrder | MixedOrder,
        collate: Callable[[list[Example]], Any],
        options: LoaderOptions,
    ) -> None:
        self.dataset, self.order, self.collate, self.options = dataset, order, collate, options
        # Small data: neither a row nor the look ahead takes more than about one pass.
        share = max(1, order.n_samples // order.world)
        self.packer = RowPacker(options.max_tokens, min(LOOKAHEAD, share), share) if options.max_tokens else None
        self.batches_per_epoch = options.batches_per_epoch
        if self.batches_per_epoch is None and not self.packer:
            self.batches_per_epoch = math.ceil(samples_of_rank(order) / options.batch_size)
        self.bad = BadSampleLog(options.max_bad_samples)
        self.position = self.batches = 0
        self.totals = {"samples": 0, "tokens": 0, "supervised_tokens": 0, "visual_tokens": 0}
        self.wait_s = 0.0
        self.budget: ByteBudget | None = None
        self._places: list[str] = []
        self._held_places: list[int] = []  # of samples that a resumed packer has to hold again
        self._stream: Iterator[Example | BadSample] | None = None

    def __len__(self) -> int:
        if self.batches_per_epoch is None:
            raise ValueError("how many rows an epoch has is not known before survey()")
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield what is left of the epoch in which the state stands; its last batch may be smaller."""
        for number in range(self.batches % len(self), len(self)):
            started = time.perf_counter()
            examples = self._next_examples(last=number == len(self) - 1)
            self.wait_s += time.perf_counter() - started
            batch = self.collate(examples)
            self._places += [example.where for example in examples]
            self.batches += 1
            self._count(examples)
            yield batch

    @property
    def epochs_drawn(self) -> float:
        """Passes over the data that have been handed out, by number of samples; other ranks taken as like this."""
        return self.totals["samples"] * self.order.world / self.order.n_samples

    def take_places(self) -> list[str]:
        """FILE:LINE of the samples handed out since this was last asked: those of an update, where each asks."""
        places, self._places = self._places, []
        return places

    def survey(self, sum_over_ranks: Callable[[list[float]], Sequence[float]]) -> None:
        """Estimate how many rows make an epoch from the first rows of every rank, unless that is known.

        sum_over_ranks: a list of numbers -> their sums over the ranks; every rank must call. The rows are not
        lost: their samples are held and come first.
        """
        packer = self.packer
        if self.batches_per_epoch is not None or packer is None:
            return
        rows = [self._next_row(packer) for _ in range(SURVEY_ROWS)]
        packer.put_back([sample for row in rows for sample in row])
        n_samples, n_rows = sum_over_ranks([float(sum(map(len, rows))), float(len(rows))])
        rows_of_rank = math.ceil(self.order.n_samples * n_rows / n_samples / self.order.world)
        accumulation = self.options.accumulation
        self.batches_per_epoch = math.ceil(rows_of_rank / accumulation) * accumulation
        logger.info(
            "%.2f samples in a row of at most %d tokens: an epoch is taken as %d rows of each process",
            n_samples / n_rows,
            packer.max_tokens,
            self.batches_per_epoch,
        )

    def _next_examples(self, last: bool) -> list[Example]:
        if self.packer:
            return [example for _, example in self._next_row(self.packer)]
        size = self.options.batch_size
        return [self._draw()[1] for _ in range(samples_of_rank(self.order) - size * (len(self) - 1) if last else size)]

    def _next_row(self, packer: RowPacker) -> list[tuple[int, Example]]:
        for place in self._held_places:
            item = self._next_item()
            # It was counted when it was first drawn; only what has gone bad since is news.
            if isinstance(item, BadSample):
                self.bad.add(item)
            else:
                packer.held.append((place, item))
        self._held_places = []
        return packer.next_row(self._draw)

    def _draw(self) -> tuple[int, Example]:
        """The next good sample and its place; a bad one's turn goes to the next of this process's order."""
        while True:
            item, place = self._next_item(), self.position
            self.position += 1
            if isinstance(item, BadSample):
                self.bad.add(item)
            else:
                self.bad.add_good(item.counts)
            self.bad.check(min(JUDGED_FROM, self.order.n_samples))
            if not isinstance(item, BadSample):
                return place, item

    def _next_item(self) -> Example | BadSample:
        if self._stream is None:
            self._stream = iter(self._open_stream())
        try:
            item = next(self._stream)
        except RuntimeError as error:
            self._explain(error)
            raise
        if self.budget:
            self.budget.take(size_of(item))
        return item if isinstance(item, BadSample) else _map_fields(item, _to_tensor)

    def _explain(self, error: RuntimeError) -> None:
        """Raise UserError for what a machine that is too small does to workers."""
        said = str(error)
        lower = f"lower --dataloader_num_workers {self.options.num_workers} or --prefetch_mb"
        if "is killed by signal" in said:
            raise UserError(f"{said.splitlines()[0]} Most likely memory ran out: {lower}, or --max_length") from error
        if any(words in said for words in NO_SHARED_MEMORY):
            free = shutil.disk_usage(SHARED_MEMORY).free / 1e6 if os.path.isdir(SHARED_MEMORY) else 0
            raise UserError(
                f"{SHARED_MEMORY} is full ({free:.0f} MB free), through which workers hand samples over: {lower}, or "
                "enlarge it (docker run --shm-size=8g)"
            ) from error

    def _open_stream(self) -> DataLoader:
        # One process, one stream for the whole run: workers persist over epochs and decode ahead across their
        # border.
        indices = _Indices(self.order, self.position, self._held_places)
        options = self.options
        workers: dict[str, Any] = {}
        if options.num_workers:
            context = multiprocessing.get_context(options.start_method)
            workers = {"prefetch_factor": options.prefetch_factor, "multiprocessing_context": context}
            if options.prefetch_bytes is not None:
                self.budget = ByteBudget(options.prefetch_bytes, context)
        # Its own generator: the default one would draw from the global state, and a resumed run would then
        # differ.
        generator = torch.Generator().manual_seed(self.order.seed)
        return DataLoader(
            _WorkerDataset(self.dataset, self.budget),
            sampler=indices,
            batch_size=None,
            collate_fn=_as_is,
            generator=generator,
            worker_init_fn=functools.partial(_end_with_owner, os.getpid()),
            num_workers=options.num_workers,
            **workers,
        )

    def _count(self, examples: list[Example]) -> None:
        for example in examples:
            self.totals["samples"] += 1
            self.totals["tokens"] += len(example.input_ids)
            self.totals["supervised_tokens"] += int((example.labels != IGNORED).sum())
            self.totals["visual_tokens"] += sum(map(grid_tokens, example.grid_thw.tolist()))

    def state_dict(self) -> dict[str, Any]:
        """Where this process stands after the last batch handed out; plain JSON values."""
        state = {
            "order": dataclasses.asdict(self.order),
            "position": self.position,
            "batches": self.batches,
            "totals": dict(self.totals),
            "bad_samples": self.bad.state_dict(),
        }
        if self.packer:
            state["held"] = self._held_places or self.packer.places
            state["batches_per_epoch"] = self.batches_per_epoch
        return state

    def load_state_dict(self, state: dict[str, Any], updates: int | None = None) -> None:
        """Go on from a state_dict. Raises UserError where the data is not what the state was made on.

        updates: optimizer steps done; given, the place in the epoch follows from it also where the batch
        size, the accumulation or the number of processes has changed since.
        """
        saved = state["order"]
        self._check_same_data(saved)
        self.close()
        self.position, self.batches = state["position"], state["batches"]
        if self.batches_per_epoch is None:
            self.batches_per_epoch = state.get("batches_per_epoch")
        if updates is not None and self.batches_per_epoch is not None:
            epochs, update = divmod(updates, -(-self.batches_per_epoch // self.options.accumulation))
            self.batches = epochs * self.batches_per_epoch + update * self.options.accumulation
        self._take_held(state.get("held", []), same_world=saved["world"] == self.order.world)
        if saved["world"] != self.order.world:
            self.position = -(-self.position * saved["world"] // self.order.world)
            logger.warning(
                "the checkpoint was made by %d processes and goes on with %d: from the same place in the order, "
                "give or take a few samples",
                saved["world"],
                self.order.world,
            )
        if saved["rank"] == self.order.rank:  # else these are another process's, whose own copy counts them
            self.totals.update(state["totals"])
            self.bad.load_state_dict(state["bad_samples"])

    def _take_held(self, places: list[int], same_world: bool) -> None:
        """Hold these places again, or, where they cannot be, step back so that none is left out."""
        self._held_places = []
        if self.packer:
            self.packer.held = []
        if self.packer and same_world:
            self._held_places = list(places)
        elif places:
            self.position -= len(places)
            logger.warning("%d samples that were held for packing are drawn anew; a few may come twice", len(places))

    def _check_same_data(self, saved: dict[str, Any]) -> None:
        # As a checkpoint's JSON has them: tuples are lists there.
        mine, saved = (json.loads(json.dumps(order)) for order in (dataclasses.asdict(self.order), saved))
        changed = {name for name in {*mine, *saved} - {"rank", "world"} if mine.get(name) != saved.get(name)}
        if not changed:
            return
        if "sizes" in mine or "sizes" in saved:
            raise UserError(
                f"the checkpoint was made on a mix {_mix(saved)}, this run has {_mix(mine)}: their order cannot go on. "
                "Give the same --annotation_paths, --annotation_weights and --seed, or start over with "
                "--overwrite_output_dir True"
            )
        raise UserError(
            f"the checkpoint was made on {saved['n_samples']} samples with seed {saved['seed']}, this run has "
            f"{self.order.n_samples} and {self.order.seed}: their order cannot go on. Give the same "
            "--annotation_paths and --seed, or start over with --overwrite_output_dir True"
        )

    def close(self) -> None:
        """End the workers, and with them whatever they decoded ahead."""
        if self.budget:
            self.budget.close()
        workers, self._stream, self.budget = getattr(self._stream, "_workers", []), None, None
        for worker in workers:
            worker.join(timeout=10)


def samples_of_rank(order: SampleOrder | MixedOrder) -> int:
    """Samples that one process draws in an epoch: the same on every rank, so that they stay in step.

    Where ranks do not divide the samples, a few of the next pass come early, and none is left out.
    """
    return math.ceil(order.n_samples / order.world)


def size_of(item: Example | BadSample) -> int:
    """Bytes of a sample's tensors or arrays."""
    return sum(getattr(value, "nbytes", 0) for value in vars(item).values())


def _mix(order: dict[str, Any]) -> str:
    if "sizes" not in order:
        return f"by size ({order['n_samples']} samples, seed {order['seed']})"
    return f"of {order['sizes']} samples with weights {order['weights']} (seed {order['seed']})"


def _end_with_owner(owner: int, worker_id: int) -> None:
    """In a worker: end soon after the process that reads from it was killed, and leave signals to that one.

    A signal to the whole group would end the worker before its owner has saved; only the owner's own SIGTERM does.

    torch looks for it only between samples. A worker that waits for room, or to write into a full pipe whose reading
    end the other workers hold open too, would stay for ever.
    """
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_when_told, args=(owner,), name="end_when_told", daemon=True).start()
    parent = os.getppid()  # the owner, or the fork server, which ends with the owner

    def watch() -> None:
        while os.getppid() == parent and psutil.pid_exists(owner):  # the latter: killed before the line above
            time.sleep(OWNER_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, name="end_with_owner", daemon=True).start()


def _end_when_told(owner: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != owner:
        continue
    os._exit(1)


class _Indices:
    """A sampler: (number from 0, sample index) of the places given, then of the order from a position on."""

    def __init__(self, order: SampleOrder | MixedOrder, position: int, first: Sequence[int] = ()) -> None:
        self.order, self.position, self.first = order, position, list(first)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first = (next(self.order.from_position(place)) for place in self.first)
        return enumerate(itertools.chain(first, self.order.from_position(self.position)))


class _WorkerDataset(Dataset):
    """The dataset as a worker hands it over: small tensors as arrays, when there is room for them."""

    def __init__(self, dataset: Dataset, budget: ByteBudget | None = None) -> None:
        if isinstance(dataset, IterableDataset):
            raise TypeError("SampleLoader needs a dataset with random access")
        self.dataset, self.budget = dataset, budget

    def __getitem__(self, numbered: tuple[int, int]) -> Example | BadSample:
        number, index = numbered
        item = self.dataset[index]
        if self.budget:
            self.budget.hand_over(number, size_of(item))
        if get_worker_info() is None or isinstance(item, BadSample):
            return item
        return _map_fields(item, _to_array)


def _as_is(item: Any) -> Any:
    return item


def _map_fields(example: Example, change: Callable[[Any], Any]) -> Example:
    changed = {f.name: change(getattr(example, f.name)) for f in dataclasses.fields(example)}
    return dataclasses.replace(example, **changed)


def _to_array(value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    # Shared here, where a full /dev/shm is an error that reaches the owner, and not in the queue's thread, which would
    # lose the sample while the owner waits for ever.
    return value.numpy() if value.nbytes < SHARED_FROM_BYTES else value.share_memory_()


def _to_tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
