"""One step at work on one shard: batches go through its stage and into its files, and the end is marked."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress

import xxhash

from data.production.record import Record, from_line, to_line
from data.production.runner.counts import StepCount, Tally
from data.production.runner.shard_task import ShardReport, ShardTask
from data.production.runner.step import PipelineStep
from data.production.runner.store import Marker, WorkStore
from data.production.stage import RecordFailed, Stage, StopRun

DETAIL_CHARACTERS = 500
MAX_CATEGORIES = 200  # of a shard, counted by name


@dataclass
class RecordBatch:
    """Lines, a digest of each, and the records; None where they have not been read.

    numbers: words and seconds of each record, where they have been counted; in whole milliseconds, so that their sums
    are the same in any order.
    """

    lines: list[bytes]
    digests: list[bytes]
    records: list[Record] | None = None
    numbers: list[tuple[int, float]] | None = None

    @classmethod
    def of(cls, lines: Sequence[bytes], records: list[Record] | None = None) -> "RecordBatch":
        """Lines with their digests."""
        return cls(list(lines), [xxhash.xxh3_128_digest(line) for line in lines], records)

    def only(self, are_kept: list[bool]) -> "RecordBatch":
        """Those that are kept."""
        if all(are_kept):
            return self
        columns = (self.lines, self.digests, self.records, self.numbers)
        return RecordBatch(*(None if column is None else list(compress(column, are_kept)) for column in columns))

    def read(self) -> list[Record]:
        """The records."""
        if self.records is None:
            self.records = list(map(from_line, self.lines))
        return self.records

    def count(self) -> list[tuple[int, float]]:
        """The numbers."""
        if self.numbers is None:
            self.numbers = _numbers_of(self.read())
        return self.numbers


@dataclass
class BatchResult:
    """What became of a batch: the records that go on, and for each record that came in the lines that it became.

    rejected: the records of `dropped`.
    """

    made: RecordBatch
    kept: list[list[bytes]]
    dropped: list[list[bytes]]
    rejected: list[Record]


@dataclass
class StepRun:
    """A step and a shard. stage: makes it ready when it is needed, which is never where all has been done before.

    before: what was made of the same input, when its failed records are tried again.
    """

    number: int
    step: PipelineStep
    task: ShardTask
    store: WorkStore
    stage: Callable[[], Stage]
    trying: Callable[[list[bytes]], None]
    before: Marker | None = None
    count: StepCount = field(default_factory=StepCount)
    n_ran: int = 0
    size: int = 0
    took_s: float = 0.0

    def __post_init__(self):
        self._digest = xxhash.xxh3_128()
        self._files = self.store.open(self.step, self.task.shard)
        if self.step.part == "process":
            self._earlier = self.store.earlier(self.step, self.task.shard, self.before)

    def feed(self, batch: RecordBatch) -> RecordBatch:
        """Do a batch; returns what goes on."""
        started = time.perf_counter()
        outcome = self._judged(batch) if self.step.part == "judge" else self._processed(batch)
        self._keep(outcome, batch.digests, len(batch.lines))
        self.took_s += time.perf_counter() - started
        return outcome.made

    def feed_read(self, pairs: Sequence[tuple[Record, bytes]], took_s: float) -> RecordBatch:
        """The same for records that an input has just read, with their lines."""
        kept = [pair for pair in pairs if pair[0].rejection is None]
        dropped = [pair for pair in pairs if pair[0].rejection is not None]
        made = RecordBatch.of([line for _, line in kept], [record for record, _ in kept])
        self.n_ran += len(pairs)
        outcome = BatchResult(made, [made.lines], [[line for _, line in dropped]], [record for record, _ in dropped])
        self._keep(outcome, [], len(pairs))
        self.took_s += took_s
        return made

    def finish(self, task: ShardTask) -> ShardReport:
        """Move the files into place and mark the step as marker. task: the shard as this step finds it."""
        attempt = self.before.attempt + 1 if self.before else 0
        self.count.reasons = dict(sorted(self.count.reasons.items()))
        place = {"input": task.digest, "digest": self._digest.hexdigest(), "attempt": attempt, "size": self.size}
        marker = Marker(**vars(self.count), **place)
        self.store.keep(self.step, task.shard, marker, self._files)
        kept = str(self.store.kept_path(self.step, task.shard, marker))
        return ShardReport(self.number, task.shard, marker, kept, self.n_ran, self.took_s)

    def close(self) -> None:
        """Remove what was not finished."""
        self._files.close()

    def _keep(self, outcome: BatchResult, digests: list[bytes], n_in: int) -> None:
        """Write and count what became of n_in records; digests: of their lines, where they have some."""
        made, rejected, count = outcome.made, outcome.rejected, self.count
        self._files.add(digests, outcome.kept, outcome.dropped)
        self._digest.update(b"".join(made.digests))
        self.size += sum(map(len, made.lines)) + len(made.lines)
        count.n_in += n_in
        count.n_failed += sum(record.rejection.failed for record in rejected)
        count.kept.add_all(made.count())
        for name, numbers in grouped([record.category for record in made.read()], made.numbers).items():
            if name in count.categories or len(count.categories) < MAX_CATEGORIES:
                count.categories.setdefault(name, Tally()).add_all(numbers)
        for name, numbers in grouped([record.rejection.reason for record in rejected], _numbers_of(rejected)).items():
            count.reasons.setdefault(name, Tally()).add_all(numbers)

    def _judged(self, batch: RecordBatch) -> BatchResult:
        stage, records = self.stage(), batch.read()
        batch.count()  # a judge changes none of the numbers
        for record in records:
            stage.judge(record)
        self.n_ran += len(records)
        are_kept = [record.rejection is None for record in records]
        return BatchResult(
            batch.only(are_kept),
            [[line] if is_kept else [] for line, is_kept in zip(batch.lines, are_kept, strict=True)],
            [[] if record.rejection is None else [to_line(record)] for record in records],
            [record for record in records if record.rejection is not None],
        )

    def _processed(self, batch: RecordBatch) -> BatchResult:
        results = [self._earlier.get(digest) for digest in batch.digests]
        fresh = [i for i, result in enumerate(results) if result is None]
        outcomes = [outcome for places in self._batches(fresh, batch) for outcome in self._worked(batch, places)]
        self.n_ran += len(fresh)
        for i, outcome in zip(fresh, outcomes, strict=True):
            results[i] = split_lines(outcome)
        kept, dropped = [lines for lines, _ in results], [lines for _, lines in results]
        if len(fresh) < len(results):
            rejected = list(map(from_line, chain.from_iterable(dropped)))
            return BatchResult(RecordBatch.of(list(chain.from_iterable(kept))), kept, dropped, rejected)
        made = list(chain.from_iterable(outcomes))
        going_on = [record for record in made if record.rejection is None]
        rejected = [record for record in made if record.rejection is not None]
        return BatchResult(RecordBatch.of(list(chain.from_iterable(kept)), going_on), kept, dropped, rejected)

    def _batches(self, fresh: Sequence[int], batch: RecordBatch) -> Iterator[list[int]]:
        """Batches in order; records that may kill the process stand alone."""
        rest, size = deque(fresh), self.stage().batch_size if fresh else 1
        alone = self.task.suspects | self.task.poisonous
        places: list[int] = []
        while rest:
            i = rest.popleft()
            if alone and batch.digests[i] in alone:
                yield [i]
                continue
            places.append(i)
            if len(places) == size:
                yield places
                places = []
        if places:
            yield places

    def _worked(self, batch: RecordBatch, places: list[int]) -> list[list[Record]]:
        """What the stage makes of records of a batch."""
        stage = self.stage()
        self.trying([batch.digests[i] for i in places])
        records = [batch.records[i] if batch.records else from_line(batch.lines[i]) for i in places]
        if len(places) == 1 and batch.digests[places[0]] in self.task.poisonous:
            return [[records[0].reject(stage.name, "process_died", "the process died on it, twice", failed=True)]]
        try:
            outcomes = stage.process(records)
        except StopRun:
            raise
        except Exception as error:  # a mistake in a stage, or a record that it cannot bear: the others go on
            if len(places) == 1:
                return [[failed(stage, from_line(batch.lines[places[0]]), error)]]
            # The batch may be half done: each record starts again from its line.
            alone = RecordBatch([batch.lines[i] for i in places], [batch.digests[i] for i in places])
            return [outcome for i in range(len(places)) for outcome in self._worked(alone, [i])]
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


def _numbers_of(records: Sequence[Record]) -> list[tuple[int, float]]:
    """Words and seconds of each."""
    return [(record.n_words, round(record.seconds, 3)) for record in records]


def grouped(names: Sequence[str], numbers: Sequence[tuple[int, float]]) -> dict[str, list[tuple[int, float]]]:
    """Numbers by name."""
    groups: dict[str, list[tuple[int, float]]] = {}
    for name, pair in zip(names, numbers, strict=True):
        groups.setdefault(name, []).append(pair)
    return groups
