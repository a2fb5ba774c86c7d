"""One link at work on one shard: batches go through its stage and into its files, and the end is marked."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import xxhash

from data.production.record import Record, from_line, to_line
from data.production.runner.held import Held, numbers_of
from data.production.runner.job import Job, Report
from data.production.runner.link import Link
from data.production.runner.store import Done, Store, Tally
from data.production.stage import RecordFailed, Stage, StopRun

DETAIL_CHARACTERS = 500
MAX_CATEGORIES = 200  # of a shard, counted by name


@dataclass
class Outcome:
    """What became of a batch: the records that go on, and for each record that came in the lines that it became.

    rejected: the records of `dropped`.
    """

    made: Held
    kept: list[list[bytes]]
    dropped: list[list[bytes]]
    rejected: list[Record]


@dataclass
class LinkRun:
    """A link and a shard. stage: makes it ready when it is needed, which is never where all has been done before.

    before: what was made of the same input, when its failed records are tried again.
    """

    number: int
    link: Link
    job: Job
    store: Store
    stage: Callable[[], Stage]
    trying: Callable[[list[bytes]], None]
    before: Done | None = None
    kept: Tally = field(default_factory=Tally)
    reasons: dict[str, Tally] = field(default_factory=dict)
    categories: dict[str, Tally] = field(default_factory=dict)
    n_in: int = 0
    n_ran: int = 0
    n_failed: int = 0
    size: int = 0
    took_s: float = 0.0

    def __post_init__(self):
        self._digest = xxhash.xxh3_128()
        self._files = self.store.open(self.link, self.job.shard)
        if self.link.part == "process":
            self._earlier = self.store.earlier(self.link, self.job.shard, self.before)

    def feed(self, held: Held) -> Held:
        """Do a batch; returns what goes on."""
        started = time.perf_counter()
        outcome = self._judged(held) if self.link.part == "judge" else self._processed(held)
        self._keep(outcome, held.digests, len(held.lines))
        self.took_s += time.perf_counter() - started
        return outcome.made

    def feed_read(self, pairs: Sequence[tuple[Record, bytes]], took_s: float) -> Held:
        """The same for records that an input has just read, with their lines."""
        kept = [pair for pair in pairs if pair[0].rejection is None]
        dropped = [pair for pair in pairs if pair[0].rejection is not None]
        made = Held.of([line for _, line in kept], [record for record, _ in kept])
        self.n_ran += len(pairs)
        outcome = Outcome(made, [made.lines], [[line for _, line in dropped]], [record for record, _ in dropped])
        self._keep(outcome, [], len(pairs))
        self.took_s += took_s
        return made

    def finish(self, job: Job) -> Report:
        """Move the files into place and mark the link as done. job: the shard as this link finds it."""
        attempt = self.before.attempt + 1 if self.before else 0
        reasons = dict(sorted(self.reasons.items()))
        numbers = (self.n_in, self.size, self.kept, reasons, self.n_failed, self.categories)
        done = Done(job.digest, self._digest.hexdigest(), attempt, *numbers)
        self.store.keep(self.link, job.shard, done, self._files)
        kept = str(self.store.kept_path(self.link, job.shard, done))
        return Report(self.number, job.shard, done, kept, self.n_ran, self.took_s)

    def close(self) -> None:
        """Remove what was not finished."""
        self._files.close()

    def _keep(self, outcome: Outcome, digests: list[bytes], n_in: int) -> None:
        """Write and count what became of n_in records; digests: of their lines, where they have some."""
        made = outcome.made
        self._files.add(digests, outcome.kept, outcome.dropped)
        self._digest.update(b"".join(made.digests))
        self.n_in += n_in
        self.size += sum(map(len, made.lines)) + len(made.lines)
        self.kept.add_all(made.count())
        for name, numbers in grouped([record.category for record in made.read()], made.numbers).items():
            if name in self.categories or len(self.categories) < MAX_CATEGORIES:
                self.categories.setdefault(name, Tally()).add_all(numbers)
        rejected = outcome.rejected
        self.n_failed += sum(record.rejection.failed for record in rejected)
        for name, numbers in grouped([record.rejection.reason for record in rejected], numbers_of(rejected)).items():
            self.reasons.setdefault(name, Tally()).add_all(numbers)

    def _judged(self, held: Held) -> Outcome:
        stage, records = self.stage(), held.read()
        held.count()  # a judge changes none of the numbers
        for record in records:
            stage.judge(record)
        self.n_ran += len(records)
        are_kept = [record.rejection is None for record in records]
        return Outcome(
            held.only(are_kept),
            [[line] if is_kept else [] for line, is_kept in zip(held.lines, are_kept, strict=True)],
            [[] if record.rejection is None else [to_line(record)] for record in records],
            [record for record in records if record.rejection is not None],
        )

    def _processed(self, held: Held) -> Outcome:
        results = [self._earlier.get(digest) for digest in held.digests]
        fresh = [i for i, result in enumerate(results) if result is None]
        outcomes = [outcome for batch in self._batches(fresh, held) for outcome in self._worked(held, batch)]
        self.n_ran += len(fresh)
        for i, outcome in zip(fresh, outcomes, strict=True):
            results[i] = split_lines(outcome)
        kept, dropped = [lines for lines, _ in results], [lines for _, lines in results]
        if len(fresh) < len(results):
            rejected = list(map(from_line, chain.from_iterable(dropped)))
            return Outcome(Held.of(list(chain.from_iterable(kept))), kept, dropped, rejected)
        made = list(chain.from_iterable(outcomes))
        going_on = [record for record in made if record.rejection is None]
        rejected = [record for record in made if record.rejection is not None]
        return Outcome(Held.of(list(chain.from_iterable(kept)), going_on), kept, dropped, rejected)

    def _batches(self, fresh: Sequence[int], held: Held) -> Iterator[list[int]]:
        """Batches in order; records that may kill the process stand alone."""
        rest, size = deque(fresh), self.stage().batch_size if fresh else 1
        alone = self.job.suspects | self.job.poisonous
        batch: list[int] = []
        while rest:
            i = rest.popleft()
            if alone and held.digests[i] in alone:
                yield [i]
                continue
            batch.append(i)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _worked(self, held: Held, batch: list[int]) -> list[list[Record]]:
        """What the stage makes of records of a batch."""
        stage = self.stage()
        self.trying([held.digests[i] for i in batch])
        records = [held.records[i] if held.records else from_line(held.lines[i]) for i in batch]
        if len(batch) == 1 and held.digests[batch[0]] in self.job.poisonous:
            return [[records[0].reject(stage.name, "process_died", "the process died on it, twice", failed=True)]]
        try:
            outcomes = stage.process(records)
        except StopRun:
            raise
        except Exception as error:  # a mistake in a stage, or a record that it cannot bear: the others go on
            if len(batch) == 1:
                return [[failed(stage, from_line(held.lines[batch[0]]), error)]]
            # The batch may be half done: each record starts again from its line.
            alone = Held([held.lines[i] for i in batch], [held.digests[i] for i in batch])
            return [outcome for i in range(len(batch)) for outcome in self._worked(alone, [i])]
        if len(outcomes) != len(records):
            raise StopRun(f"{stage.name} returned {len(outcomes)} results for {len(records)} records: a mistake in it")
        return outcomes


def failed(stage: Stage, record: Record, error: Exception) -> Record:
    """The record, kept as failed with the cause."""
    cause = error.cause if isinstance(error, RecordFailed) else getattr(error, "cause", type(error).__name__)
    detail = error.detail if isinstance(error, RecordFailed) else str(error)
    return record.reject(stage.name, str(cause), detail[:DETAIL_CHARACTERS], failed=True)


def split_lines(records: Sequence[Record]) -> tuple[list[bytes], list[bytes]]:
    """Lines of the records that go on, and of the others."""
    kept = [to_line(record) for record in records if record.rejection is None]
    return kept, [to_line(record) for record in records if record.rejection is not None]


def grouped(names: Sequence[str], numbers: Sequence[tuple[int, float]]) -> dict[str, list[tuple[int, float]]]:
    """Numbers by name."""
    groups: dict[str, list[tuple[int, float]]] = {}
    for name, pair in zip(names, numbers, strict=True):
        groups.setdefault(name, []).append(pair)
    return groups
