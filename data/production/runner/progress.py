"""Progress of a run, stage by stage: shards, rate, remaining time, share of accepted records; and its result."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data.production.runner.counts import StepCount
from data.production.runner.shard_task import ShardReport
from data.production.runner.step import PipelineStep

LOG_EVERY_S = 30.0  # where nobody watches a terminal


@dataclass
class StepProgress(StepCount):
    """What a step has done so far, of all shards. n_ran: records worked on now."""

    n_shards: int = 0
    n_ran: int = 0


class Progress:
    """Counts reports and shows them: bars on a terminal, now and then a line elsewhere."""

    def __init__(self, steps: Sequence[PipelineStep], n_shards: int, shown: bool = True):
        self.steps, self.n_shards = steps, n_shards
        self.counts = [StepProgress() for _ in steps]
        self._width = max(len(step.name) for step in steps)
        self._on_terminal = shown and sys.stderr.isatty()
        self._shown, self._bars, self._started, self._logged = shown, {}, {}, time.monotonic()

    def add(self, report: ShardReport) -> None:
        """A step is done with a shard."""
        count = self.counts[report.step]
        count.add(report.marker)
        count.n_shards += 1
        count.n_ran += report.ran
        self._started.setdefault(report.step, (time.monotonic() - report.took_s, count.n_shards - 1))
        if self._on_terminal:
            self._draw(report.step, count)
        elif self._shown and time.monotonic() - self._logged > LOG_EVERY_S:
            self._logged = time.monotonic()
            print(self.line(report.step), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the bars as they are."""
        for bar in self._bars.values():
            bar.close()

    def line(self, number: int) -> str:
        """A step's progress in one line."""
        count = self.counts[number]
        started, before = self._started[number]
        took_s = max(time.monotonic() - started, 1e-6)
        rest_s = took_s / max(count.n_shards - before, 1) * (self.n_shards - count.n_shards)
        return (
            f"{self.steps[number].name}: {count.n_shards}/{self.n_shards} shards, {self._facts(number)}, "
            f"about {rest_s / 60:.0f} min left"
        )

    def _facts(self, number: int) -> str:
        count = self.counts[number]
        started, _ = self._started[number]
        rate = count.n_ran / max(time.monotonic() - started, 1e-6)
        failures = f", {count.n_failed:,} failed" if count.n_failed else ""
        speed = f"{rate:,.0f}/s, " if count.n_ran else "kept, "
        return f"{count.n_in:,} records, {speed}{count.acceptance:.0%} accepted{failures}"

    def _draw(self, number: int, count: StepProgress) -> None:
        if number not in self._bars:
            name = self.steps[number].name.ljust(self._width)
            form = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}]{postfix}"
            self._bars[number] = tqdm(
                total=self.n_shards,
                desc=name,
                bar_format=form,
                position=len(self._bars),
                dynamic_ncols=True,
                leave=True,
            )
        bar = self._bars[number]
        bar.set_postfix_str(self._facts(number), refresh=False)
        bar.update(1)


@dataclass
class RunResult:
    """What a run has done. steps and counts belong together; files: lines by name. used: kept work, by folder and the
    beginning of its files' names."""

    folder: Path
    steps: list[PipelineStep]
    progress: Progress
    kept: list[Path]
    dropped: dict[int, list[Path]]
    files: dict[str, int]
    used: set[tuple[str, str]]

    @property
    def n_failed(self) -> int:
        """Records that a stage could not work on."""
        return sum(count.n_failed for count in self.progress.counts)
