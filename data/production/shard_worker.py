"""The work on one shard: links in a row, each kept when it is done. Every engine runs this and nothing else."""

import gc
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, compress, islice
from pathlib import Path

import xxhash

from data.production.link import Link
from data.production.record import Record, from_line, read_lines, to_line
from data.production.stage import RecordFailed, Source, Stage, StopRun, Worker
from data.production.store import DIGEST_BYTES, Done, Output, Store, Tally

DETAIL_CHARACTERS = 500
MAX_CATEGORIES = 200  # of a shard, counted by name


@dataclass(frozen=True)
class Job:
    """A shard, and where its records are: in the input as `source` says, or in the file that a link has left.

    poisonous: digests of records that a process died on. suspects: records in whose batch one died.
    """

    shard: int
    digest: str
    source: dict | None = None
    kept: str = ""
    poisonous: frozenset[bytes] = field(default_factory=frozenset)
    suspects: frozenset[bytes] = field(default_factory=frozenset)

    def after_death(self, trying: Sequence[bytes]) -> "Job":
        """The job for the process that follows one that died on these: a second death on one alone settles it."""
        if len(trying) == 1 and trying[0] in self.suspects:
            return replace(self, poisonous=self.poisonous | set(trying))
        return replace(self, suspects=self.suspects | set(trying))


@dataclass(frozen=True)
class Report:
    """A link is done with a shard. link: its number in the run. ran: records worked on now; the others were kept."""

    link: int
    shard: int
    done: Done
    kept: str
    ran: int = 0
    took_s: float = 0.0


@dataclass
class Held:
    """Records between two links: their lines, and themselves where they are at hand, else None.

    numbers: words and seconds of each, where they have been counted.
    """

    lines: list[bytes]
    digests: list[bytes]
    records: list[Record] | None = None
    numbers: list[tuple[int, float]] | None = None

    @classmethod
    def of(cls, lines: list[bytes], records: list[Record] | None = None) -> "Held":
        """Lines with their digests."""
        return cls(lines, digests_of(lines), records)

    def only(self, are_kept: list[bool]) -> "Held":
        """Those that are kept."""
        if all(are_kept):
            return self
        columns = (self.lines, self.digests, self.records, self.numbers)
        return Held(*(None if column is None else list(compress(column, are_kept)) for column in columns))

    def count(self) -> None:
        """Read the records and count, where that has not been done."""
        if self.records is None:
            self.records = list(map(from_line, self.lines))
        if self.numbers is None:
            self.numbers = [(record.n_words, record.seconds) for record in self.records]


class ShardWorker:
    """Takes shards through a group of links, setting up each stage when it is first needed.

    links: by their number in the run. trying: told of each batch's digests before it is worked on.
    """

    def __init__(
        self,
        links: dict[int, Link],
        folder: Path,
        device: str = "cpu",
        n_threads: int = 1,
        retry_failed: bool = False,
        trying: Callable[[list[bytes]], None] | None = None,
    ):
        self.links, self.device, self.n_threads, self.retry_failed = links, device, n_threads, retry_failed
        self.store, self.side = Store(folder / "work"), folder / "side"
        self._trying = trying or (lambda digests: None)
        self._source: Source | None = None
        self._stages: dict[int, Stage] = {}

    def run(self, job: Job) -> Iterator[Report]:
        """Do what is not done yet; yields a report for each link. Raises UserError where the run must end."""
        if not all(link.is_light for link in self.links.values()):
            yield from self._run(job)  # models leave cycles behind
            return
        # The records of a shard are millions of small objects without cycles: to look for garbage among them all the
        # time takes half as long as the work itself.
        gc.disable()
        try:
            yield from self._run(job)
        finally:
            gc.enable()

    def _run(self, job: Job) -> Iterator[Report]:
        held = None
        for number, link in self.links.items():
            done = self.store.find(link, job.shard, job.digest)
            if done and not (self.retry_failed and done.n_failed):
                report, held = self._report(number, job, done), None
            else:
                report, held = self._do(number, job, held, done)
            yield report
            job = after(job, report)

    def close(self) -> None:
        """Tear down the stages that were set up; those that only judge were not."""
        for number, stage in self._stages.items():
            if self.links[number].part == "process":
                stage.teardown()
        self._stages = {}

    def _do(self, number: int, job: Job, held: Held | None, before: Done | None) -> tuple[Report, Held]:
        link, started = self.links[number], time.perf_counter()
        worker = Worker(self.device, self.n_threads, self.side / link.stage)
        if link.part == "read":
            output, made, n_ran = self._read(link, job)
        else:
            held = held or Held.of(list(read_lines(Path(job.kept))))
            make = self._judged if link.part == "judge" else self._processed
            output, made, n_ran = make(number, job, held, worker, before)
        made.count()
        done = summarise(job, output, made, before)
        self.store.keep(link, job.shard, done, output)
        took_s = time.perf_counter() - started
        worker.note(link=link.name, shard=job.shard, n_in=done.n_in, n_ran=n_ran, took_s=round(took_s, 4))
        return replace(self._report(number, job, done), ran=n_ran, took_s=took_s), made

    def _report(self, number: int, job: Job, done: Done) -> Report:
        return Report(number, job.shard, done, str(self.store.kept_path(self.links[number], job.shard, done)))

    def _read(self, link: Link, job: Job) -> tuple[Output, Held, int]:
        digest = bytes.fromhex(job.digest)[:DIGEST_BYTES]
        self._source = self._source or link.make_source()
        pairs = list(self._source.read_lines(job.source))
        kept = [pair for pair in pairs if pair[0].rejection is None]
        dropped = [pair for pair in pairs if pair[0].rejection is not None]
        made = Held.of([line for _, line in kept], [record for record, _ in kept])
        rejected = [record for record, _ in dropped]
        return Output([digest], [made.lines], [[line for _, line in dropped]], rejected), made, len(pairs)

    def _judged(
        self, number: int, job: Job, held: Held, worker: Worker, before: Done | None
    ) -> tuple[Output, Held, int]:
        stage, n_in = self._stage(number, worker), len(held.lines)
        held.count()  # a judge changes none of the numbers
        for record in held.records:
            stage.judge(record)
        are_kept = [record.rejection is None for record in held.records]
        rejected = [record for record in held.records if record.rejection is not None]
        kept = [[line] if is_kept else [] for line, is_kept in zip(held.lines, are_kept, strict=True)]
        dropped = [[] if is_kept else [to_line(r)] for r, is_kept in zip(held.records, are_kept, strict=True)]
        return Output(held.digests, kept, dropped, rejected), held.only(are_kept), n_in

    def _processed(
        self, number: int, job: Job, held: Held, worker: Worker, before: Done | None
    ) -> tuple[Output, Held, int]:
        link = self.links[number]
        earlier = self.store.earlier(link, job.shard, before)
        results = [earlier.get(digest) for digest in held.digests]
        fresh = [i for i, result in enumerate(results) if result is None]
        stage, outcomes = self._stage(number, worker) if fresh else None, []
        for batch in self._batches(fresh, held, job, stage.batch_size if stage else 1):
            self._trying([held.digests[i] for i in batch])
            poisonous = len(batch) == 1 and held.digests[batch[0]] in job.poisonous
            records = [self._record(held, i) for i in batch]
            for i, outcome in zip(batch, self._outcomes(stage, records, held, batch, poisonous), strict=True):
                results[i] = split_lines(outcome)
                outcomes.append(outcome)
        output = Output(held.digests, [kept for kept, _ in results], [dropped for _, dropped in results])
        lines = list(chain.from_iterable(output.kept))
        if len(fresh) < len(results):
            return output, Held.of(lines), len(fresh)
        made = list(chain.from_iterable(outcomes))
        output.rejected = [record for record in made if record.rejection is not None]
        return output, Held.of(lines, [record for record in made if record.rejection is None]), len(fresh)

    @staticmethod
    def _record(held: Held, i: int) -> Record:
        return held.records[i] if held.records else from_line(held.lines[i])

    @staticmethod
    def _batches(fresh: Sequence[int], held: Held, job: Job, size: int) -> Iterator[list[int]]:
        """Batches in order; records that may kill the process stand alone."""
        rest = deque(fresh)
        alone = job.suspects | job.poisonous
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

    def _outcomes(
        self, stage: Stage, records: list[Record], held: Held, batch: list[int], poisonous: bool
    ) -> list[list[Record]]:
        if poisonous:
            return [[records[0].reject(stage.name, "process_died", "the process died on it, twice", failed=True)]]
        try:
            outcomes = stage.process(records)
        except StopRun:
            raise
        except Exception as error:
            if len(batch) == 1:
                return [[failed(stage, from_line(held.lines[batch[0]]), error)]]
            # The batch may be half done: each record starts again from its line.
            return [self._outcomes(stage, [from_line(held.lines[i])], held, [i], False)[0] for i in batch]
        if len(outcomes) != len(records):
            raise StopRun(f"{stage.name} returned {len(outcomes)} results for {len(records)} records: a mistake in it")
        return outcomes

    def _stage(self, number: int, worker: Worker) -> Stage:
        if number not in self._stages:
            stage = self.links[number].make_stage()
            if self.links[number].part == "process":
                stage.setup(worker)
            self._stages[number] = stage
        return self._stages[number]


def after(job: Job, report: Report) -> Job:
    """The shard as the next link finds it."""
    return replace(job, digest=report.done.digest, source=None, kept=report.kept)


def failed(stage: Stage, record: Record, error: Exception) -> Record:
    """The record, kept as failed with the cause."""
    cause = error.cause if isinstance(error, RecordFailed) else getattr(error, "cause", type(error).__name__)
    detail = error.detail if isinstance(error, RecordFailed) else str(error)
    return record.reject(stage.name, str(cause), detail[:DETAIL_CHARACTERS], failed=True)


def split_lines(records: Sequence[Record]) -> tuple[list[bytes], list[bytes]]:
    """Lines of the records that go on, and of the others."""
    kept = [to_line(record) for record in records if record.rejection is None]
    return kept, [to_line(record) for record in records if record.rejection is not None]


def digests_of(lines: Sequence[bytes]) -> list[bytes]:
    """A digest of each line."""
    return [xxhash.xxh3_128_digest(line) for line in lines]


def summarise(job: Job, output: Output, made: Held, before: Done | None) -> Done:
    """The marker's content."""
    rejected = output.rejected
    if rejected is None:
        rejected = [from_line(line) for lines in output.dropped for line in lines]
    reasons = tallies([record.rejection.reason for record in rejected], [(r.n_words, r.seconds) for r in rejected])
    names = [record.category for record in made.records]
    some = set(islice(dict.fromkeys(names), MAX_CATEGORIES))
    categories = {name: tally for name, tally in tallies(names, made.numbers).items() if name in some}
    digest = xxhash.xxh3_128_hexdigest(b"".join(made.digests))
    size = sum(map(len, made.lines)) + len(made.lines)
    attempt = before.attempt + 1 if before else 0
    n_in = len(output.digests) if job.source is None else len(made.lines) + len(rejected)
    n_failed = sum(record.rejection.failed for record in rejected)
    kept = Tally.of(made.numbers)
    return Done(job.digest, digest, attempt, n_in, size, kept, dict(sorted(reasons.items())), n_failed, categories)


def tallies(names: Sequence[str], numbers: Sequence[tuple[int, float]]) -> dict[str, Tally]:
    """Tallies by name of records with their numbers of words and seconds."""
    groups: dict[str, list[tuple[int, float]]] = {}
    for name, pair in zip(names, numbers, strict=True):
        groups.setdefault(name, []).append(pair)
    return {name: Tally.of(group) for name, group in groups.items()}
