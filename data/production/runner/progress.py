"""Progress of a run, stage by stage: shards, rate, remaining time, share of accepted records; and its result."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from data.production.runner.shard_task import ShardReport
from data.production.runner.step import PipelineStep
from data.production.runner.store import Tally

LOG_EVERY_S = 30.0  # where nobody watches a terminal


@dataclass
class StepCount:
    """What a step has done so far."""

    n_shards: int = 0
    n_in: int = 0
    n_ran: int = 0
    n_failed: int = 0
    kept: Tally = field(default_factory=Tally)
    reasons: dict[str, Tally] = field(default_factory=dict)
    categories: dict[str, Tally] = field(default_factory=dict)

    def add(self, report: ShardReport) -> None:
        """StepCount a shard."""
        marker = report.marker
        self.n_shards += 1
        self.n_in += marker.n_in
        self.n_ran += report.ran
        self.n_failed += marker.n_failed
        self.kept.add(marker.kept.records, marker.kept.words, marker.kept.seconds)
        for mine, other in ((self.reasons, marker.reasons), (self.categories, marker.categories)):
            for name, tally in other.items():
                mine.setdefault(name, Tally()).add(tally.records, tally.words, tally.seconds)

    @property
    def n_dropped(self) -> int:
        """Records that did not go on."""
        return sum(tally.records for tally in self.reasons.values())

    @property
    def acceptance(self) -> float:
        """Share of the records that went on; a record's parts count as one."""
        n_out = self.kept.records + self.n_dropped
        return self.kept.records / n_out if n_out else 1.0


class Progress:
    """Counts reports and shows them: bars on a terminal, now and then a line elsewhere."""

    def __init__(self, steps: Sequence[PipelineStep], n_shards: int, shown: bool = True):
        self.steps, self.n_shards = steps, n_shards
        self.counts = [StepCount() for _ in steps]
        self._width = max(len(step.name) for step in steps)
        self._on_terminal = shown and sys.stderr.isatty()
        self._shown, self._bars, self._started, self._logged = shown, {}, {}, time.monotonic()

    def add(self, report: ShardReport) -> None:
        """A step is done with a shard."""
        count = self.counts[report.step]
        count.add(report)
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

    def _draw(self, number: int, count: StepCount) -> None:
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
