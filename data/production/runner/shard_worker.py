"""The work on one shard: steps in a row, each kept when it is done. Every runner runs this and nothing else.

Links whose work is all new take a shard together, a batch at a time through all of them: so a shard is never in memory
as a whole, and a record is parsed and written once for each step, but not read again.
"""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from data.production.record import read_record_lines
from data.production.runner.shard_task import ShardReport, ShardTask, after
from data.production.runner.step import PipelineStep
from data.production.runner.step_run import RecordBatch, StepRun
from data.production.runner.store import Marker, WorkStore
from data.production.stage import Input, Stage, Worker, load_stage

AT_ONCE = 64  # records that go through the steps together, or as many as a stage takes


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker is told when it starts. steps: by their number in the run. gpu: which one, as CUDA_VISIBLE_DEVICES
    names it, or None."""

    steps: dict[int, PipelineStep]
    folder: Path
    gpu: str | None = None
    n_threads: int = 1
    retry_failed: bool = False


class ShardWorker:
    """Takes shards through a group of steps, setting up each stage when it is first needed.

    trying: told of each batch's digests before it is worked on. place: what is noted of where that is, besides host and
    process.
    """

    def __init__(
        self,
        setup: WorkerSetup,
        trying: Callable[[list[bytes]], None] | None = None,
        place: dict[str, str] | None = None,
    ):
        self.setup, self.steps, self.side = setup, setup.steps, setup.folder / "side"
        self.store = WorkStore(setup.folder / "work")
        self._trying, self._place = trying or (lambda digests: None), place or {}
        sizes = [load_stage(step.stage).batch_size for step in self.steps.values() if step.part == "process"]
        self._at_once = max([AT_ONCE, *sizes])
        self._input_reader: Input | None = None
        self._stages: dict[int, Stage] = {}

    def run(self, task: ShardTask) -> Iterator[ShardReport]:
        """Do what is not done yet; yields a report for each step. Raises UserError where the run must end."""
        if not all(step.is_light for step in self.steps.values()):
            yield from self._run(task)  # models leave cycles behind
            return
        # The records of a shard are millions of small objects without cycles: to look for garbage among them all the
        # time takes half as long as the work itself.
        gc.disable()
        try:
            yield from self._run(task)
        finally:
            gc.enable()

    def _run(self, task: ShardTask) -> Iterator[ShardReport]:
        rest = list(self.steps)
        while rest:
            step = self.steps[rest[0]]
            marker = self.store.find(step, task.shard, task.digest)
            if marker and not (self.setup.retry_failed and marker.n_failed):
                reports = [
                    ShardReport(rest[0], task.shard, marker, str(self.store.kept_path(step, task.shard, marker)))
                ]
            else:
                reports = self._do(self._together(rest, task.shard), task, marker)
            for report in reports:
                yield report
                task = after(task, report)
                rest.pop(0)

    def close(self) -> None:
        """Tear down the stages that were set up; those that only judge were not."""
        for number, stage in self._stages.items():
            if self.steps[number].part == "process":
                stage.teardown()
        self._stages = {}

    def _together(self, numbers: list[int], shard: int) -> list[int]:
        """The first step, and those behind it that have made nothing of this shard in any state: where they have, what
        they find may be what they know, which shows when the shard has reached them."""
        for place, number in enumerate(numbers[1:], start=1):
            if self.store.knows(self.steps[number], shard):
                return numbers[:place]
        return list(numbers)

    def _do(self, numbers: list[int], task: ShardTask, before: Marker | None) -> Iterator[ShardReport]:
        runs = [self._step_run(number, task, before if number == numbers[0] else None) for number in numbers]
        try:
            for batch in self._input(runs[0], task):
                for step_run in runs[1:] if runs[0].step.part == "read" else runs:
                    batch = step_run.feed(batch)
            for step_run in runs:
                report = step_run.finish(task)
                self._note(report)
                yield report
                task = after(task, report)
        finally:
            for step_run in runs:
                step_run.close()

    def _step_run(self, number: int, task: ShardTask, before: Marker | None) -> StepRun:
        return StepRun(number, self.steps[number], task, self.store, lambda: self._stage(number), self._trying, before)

    def _input(self, first: StepRun, task: ShardTask) -> Iterator[RecordBatch]:
        """The shard in batches; those of an input have gone through its step."""
        if first.step.part != "read":
            lines = read_record_lines(Path(task.kept))
            while some := list(islice(lines, self._at_once)):
                yield RecordBatch.of(some)
            return
        self._input_reader = self._input_reader or first.step.make_input()
        pairs = self._input_reader.read_lines(task.source)
        started = time.perf_counter()
        while some := list(islice(pairs, self._at_once)):
            yield first.feed_read(some, time.perf_counter() - started)
            started = time.perf_counter()

    def _note(self, report: ShardReport) -> None:
        step, marker = self.steps[report.step], report.marker
        facts = {"step": step.name, "shard": report.shard, "n_in": marker.n_in, "n_ran": report.ran, **self._place}
        self._worker(step).note(**facts, took_s=round(report.took_s, 4))

    def _worker(self, step: PipelineStep) -> Worker:
        # Each worker is shown its GPU as number 0.
        device = "cpu" if self.setup.gpu is None else "cuda:0"
        return Worker(device, self.setup.n_threads, self.side / step.stage)

    def _stage(self, number: int) -> Stage:
        if number not in self._stages:
            step = self.steps[number]
            stage = step.make_stage()
            if step.part == "process":
                stage.setup(self._worker(step))
            self._stages[number] = stage
        return self._stages[number]
