"""The work on one shard: links in a row, each kept when it is done. Every engine runs this and nothing else.

Links whose work is all new take a shard together, a batch at a time through all of them: so a shard is never in memory
as a whole, and a record is parsed and written once for each link, but not read again.
"""

import gc
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from data.production.record import read_lines
from data.production.runner.held import Held
from data.production.runner.job import Job, Report, after
from data.production.runner.link import Link
from data.production.runner.link_run import LinkRun
from data.production.runner.store import Done, Store
from data.production.stage import Input, Stage, Worker, load_stage

AT_ONCE = 64  # records that go through the links together, or as many as a stage takes


class ShardWorker:
    """Takes shards through a group of links, setting up each stage when it is first needed.

    links: by their number in the run. trying: told of each batch's digests before it is worked on. place: what is noted
    of where that is, besides host and process.
    """

    def __init__(
        self,
        links: dict[int, Link],
        folder: Path,
        device: str = "cpu",
        n_threads: int = 1,
        retry_failed: bool = False,
        trying: Callable[[list[bytes]], None] | None = None,
        place: dict[str, str] | None = None,
    ):
        self.links, self.device, self.n_threads, self.retry_failed = links, device, n_threads, retry_failed
        self.store, self.side = Store(folder / "work"), folder / "side"
        self._trying, self._place = trying or (lambda digests: None), place or {}
        sizes = [load_stage(link.stage).batch_size for link in links.values() if link.part == "process"]
        self._at_once = max([AT_ONCE, *sizes])
        self._input_reader: Input | None = None
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
        rest = list(self.links)
        while rest:
            link = self.links[rest[0]]
            done = self.store.find(link, job.shard, job.digest)
            if done and not (self.retry_failed and done.n_failed):
                reports = [Report(rest[0], job.shard, done, str(self.store.kept_path(link, job.shard, done)))]
            else:
                reports = self._do(self._together(rest, job.shard), job, done)
            for report in reports:
                yield report
                job = after(job, report)
                rest.pop(0)

    def close(self) -> None:
        """Tear down the stages that were set up; those that only judge were not."""
        for number, stage in self._stages.items():
            if self.links[number].part == "process":
                stage.teardown()
        self._stages = {}

    def _together(self, numbers: list[int], shard: int) -> list[int]:
        """The first link, and those behind it that have made nothing of this shard in any state: where they have, what
        they find may be what they know, which shows when the shard has reached them."""
        for place, number in enumerate(numbers[1:], start=1):
            if self.store.knows(self.links[number], shard):
                return numbers[:place]
        return list(numbers)

    def _do(self, numbers: list[int], job: Job, before: Done | None) -> Iterator[Report]:
        runs = [self._link_run(number, job, before if number == numbers[0] else None) for number in numbers]
        try:
            for held in self._input(runs[0], job):
                for link_run in runs[1:] if runs[0].link.part == "read" else runs:
                    held = link_run.feed(held)
            for link_run in runs:
                report = link_run.finish(job)
                self._note(report)
                yield report
                job = after(job, report)
        finally:
            for link_run in runs:
                link_run.close()

    def _link_run(self, number: int, job: Job, before: Done | None) -> LinkRun:
        return LinkRun(number, self.links[number], job, self.store, lambda: self._stage(number), self._trying, before)

    def _input(self, first: LinkRun, job: Job) -> Iterator[Held]:
        """The shard in batches; those of an input have gone through its link."""
        if first.link.part != "read":
            lines = read_lines(Path(job.kept))
            while batch := list(islice(lines, self._at_once)):
                yield Held.of(batch)
            return
        self._input_reader = self._input_reader or first.link.make_input()
        pairs = self._input_reader.read_lines(job.source)
        started = time.perf_counter()
        while batch := list(islice(pairs, self._at_once)):
            yield first.feed_read(batch, time.perf_counter() - started)
            started = time.perf_counter()

    def _note(self, report: Report) -> None:
        link, done = self.links[report.link], report.done
        facts = {"link": link.name, "shard": report.shard, "n_in": done.n_in, "n_ran": report.ran, **self._place}
        self._worker(link).note(**facts, took_s=round(report.took_s, 4))

    def _worker(self, link: Link) -> Worker:
        return Worker(self.device, self.n_threads, self.side / link.stage)

    def _stage(self, number: int) -> Stage:
        if number not in self._stages:
            link = self.links[number]
            stage = link.make_stage()
            if link.part == "process":
                stage.setup(self._worker(link))
            self._stages[number] = stage
        return self._stages[number]
