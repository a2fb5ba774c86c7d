"""Samples in order -> batches for one process: bad ones skipped, resumable after any batch."""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from data.bad_samples import JUDGED_FROM, BadSampleLog
from data.dataset import BadSample, Example
from data.order import SampleOrder
from utils.errors import UserError

logger = logging.getLogger(__name__)

# A worker hands larger arrays over in shared memory. Smaller ones travel by pipe: a shared tensor costs an
# open file for as long as it lives, and a batch of small clips holds hundreds of them.
SHARED_FROM_BYTES = 1 << 20
MERGED_PATCHES = 4  # patches that become one visual token


class SampleLoader:
    """Batches of good samples in a fixed order, one epoch per iteration.

    collate: list of Examples -> the batch. The state is the place in the order after the last batch handed
    out; what workers decoded ahead of it is decoded again after a resume. `totals` counts what was handed out
    since the run began: samples, tokens, supervised_tokens, visual_tokens; `wait_s` is the time spent waiting
    for samples.
    """

    def __init__(
        self,
        dataset: Dataset,
        order: SampleOrder,
        collate: Callable[[list[Example]], dict[str, Any]],
        *,
        batch_size: int,
        accumulation: int = 1,
        max_bad_samples: float = 0.01,
        num_workers: int = 0,
        prefetch_factor: int | None = None,
        start_method: str | None = None,
    ) -> None:
        self.dataset, self.order, self.collate, self.batch_size = dataset, order, collate, batch_size
        self.accumulation = accumulation
        self.batches_per_epoch = epoch_length(order, batch_size, accumulation)
        self.bad = BadSampleLog(max_bad_samples)
        self.position = self.batches = 0
        self.totals = {"samples": 0, "tokens": 0, "supervised_tokens": 0, "visual_tokens": 0}
        self.wait_s = 0.0
        self.workers = {
            "num_workers": num_workers,
            "prefetch_factor": prefetch_factor if num_workers else None,
            "multiprocessing_context": start_method if num_workers else None,
        }
        self._stream: Iterator[Example | BadSample] | None = None

    def __len__(self) -> int:
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield what is left of the epoch in which the state stands."""
        for _ in range(self.batches_per_epoch - self.batches % self.batches_per_epoch):
            examples = self._good_examples()
            batch = self.collate(examples)
            self.batches += 1
            self._count(examples)
            yield batch

    def _good_examples(self) -> list[Example]:
        """The next batch's examples; a bad sample's place goes to the next good one of this process's order."""
        examples: list[Example] = []
        started = time.perf_counter()
        while len(examples) < self.batch_size:
            if self._stream is None:
                self._stream = iter(self._open_stream())
            item = next(self._stream)
            self.position += 1
            if isinstance(item, BadSample):
                self.bad.add(item)
            else:
                self.bad.add_good(item.counts)
                examples.append(_from_worker(item))
            self.bad.check(min(JUDGED_FROM, self.order.n_samples))
        self.wait_s += time.perf_counter() - started
        return examples

    def _open_stream(self) -> DataLoader:
        # One process, one stream for the whole run: workers persist over epochs and decode ahead across their
        # border.
        indices = _Indices(self.order, self.position)
        # Its own generator: the default one would draw from the global state, and a resumed run would then
        # differ.
        generator = torch.Generator().manual_seed(self.order.seed)
        return DataLoader(
            _WorkerDataset(self.dataset),
            sampler=indices,
            batch_size=None,
            collate_fn=_as_is,
            generator=generator,
            **self.workers,
        )

    def _count(self, examples: list[Example]) -> None:
        for example in examples:
            self.totals["samples"] += 1
            self.totals["tokens"] += len(example.input_ids)
            self.totals["supervised_tokens"] += int((example.labels != -100).sum())
            self.totals["visual_tokens"] += int(example.grid_thw.prod(-1).sum()) // MERGED_PATCHES

    def state_dict(self) -> dict[str, Any]:
        """Where this process stands after the last batch handed out; plain JSON values."""
        return {
            "order": dataclasses.asdict(self.order),
            "position": self.position,
            "batches": self.batches,
            "totals": dict(self.totals),
            "bad_samples": self.bad.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any], updates: int | None = None) -> None:
        """Go on from a state_dict. Raises UserError where the data is not what the state was made on.

        updates: optimizer steps done; given, the place in the epoch follows from it also where the batch
        size, the accumulation or the number of processes has changed since.
        """
        saved = SampleOrder(**state["order"])
        if (saved.n_samples, saved.seed) != (self.order.n_samples, self.order.seed):
            raise UserError(
                f"the checkpoint was made on {saved.n_samples} samples with seed {saved.seed}, this run has "
                f"{self.order.n_samples} and {self.order.seed}: their order cannot go on. Give the same "
                "--annotation_paths and --seed, or start over with --overwrite_output_dir True"
            )
        self.close()
        self.position, self.batches = state["position"], state["batches"]
        if updates is not None:
            epochs, update = divmod(updates, -(-self.batches_per_epoch // self.accumulation))
            self.batches = epochs * self.batches_per_epoch + update * self.accumulation
        if saved.world != self.order.world:
            self.position = -(-self.position * saved.world // self.order.world)
            logger.warning(
                "the checkpoint was made by %d processes and goes on with %d: from the same place in the order, "
                "give or take a few samples",
                saved.world,
                self.order.world,
            )
        if saved.rank == self.order.rank:  # else these are another process's, whose own copy counts them
            self.totals.update(state["totals"])
            self.bad.load_state_dict(state["bad_samples"])

    def close(self) -> None:
        """End the workers, and with them whatever they decoded ahead."""
        workers, self._stream = getattr(self._stream, "_workers", []), None
        for worker in workers:
            worker.join(timeout=10)


def epoch_length(order: SampleOrder, batch_size: int, accumulation: int) -> int:
    """Batches of one process in one epoch: whole updates of `accumulation` batches wherever the data gives
    one.

    The same on every rank, so that they stay in step. Samples left over come first in the next epoch.
    """
    batches = max(1, order.n_samples // (order.world * batch_size))
    return batches if batches < accumulation else batches - batches % accumulation


class _Indices:
    """A sampler: the order from a position on."""

    def __init__(self, order: SampleOrder, position: int) -> None:
        self.order, self.position = order, position

    def __iter__(self) -> Iterator[int]:
        return self.order.from_position(self.position)


class _WorkerDataset(Dataset):
    """The dataset as a worker hands it over: small tensors as arrays."""

    def __init__(self, dataset: Dataset) -> None:
        if isinstance(dataset, IterableDataset):
            raise TypeError("SampleLoader needs a dataset with random access")
        self.dataset = dataset

    def __getitem__(self, index: int) -> Example | BadSample:
        item = self.dataset[index]
        if get_worker_info() is None or isinstance(item, BadSample):
            return item
        return _map_fields(item, _to_array)


def _as_is(item: Any) -> Any:
    return item


def _from_worker(example: Example) -> Example:
    return _map_fields(example, _to_tensor)


def _map_fields(example: Example, change: Callable[[Any], Any]) -> Example:
    changed = {f.name: change(getattr(example, f.name)) for f in dataclasses.fields(example)}
    return dataclasses.replace(example, **changed)


def _to_array(value: Any) -> Any:
    small = isinstance(value, torch.Tensor) and value.nbytes < SHARED_FROM_BYTES
    return value.numpy() if small else value


def _to_tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
