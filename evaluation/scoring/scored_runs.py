"""Runs of benchmarks: found on disk (own files and published ones), scored, and compared item by item in pairs."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evaluation.scoring.benchmarks import benchmark_names, scores_of
from evaluation.scoring.results import BenchmarkRun, ItemResult
from evaluation.scoring.stats import Comparison, Score, compare_results
from evaluation.scoring.tables import Table
from utils.errors import UserError

PATTERN = "*.result.json"
OF_THE_MODEL = {"model", "fingerprint", "published_file"}  # settings that differ whenever two models are compared


@dataclass(frozen=True)
class ScoredRun:
    """A run and how its items are counted."""

    run: BenchmarkRun

    @cached_property
    def tables(self) -> list[Table]:
        """The benchmark's tables that have rows; the first row of the first is the headline."""
        return [table for table in scores_of(self.run.benchmark).summary(self.run.results) if table.rows]

    @property
    def headline(self) -> Score:
        """Headline score of the run."""
        return self.tables[0].rows[0]

    @property
    def n_failed(self) -> int:
        """Number of items without an answer."""
        return sum(result.failed for result in self.run.results)

    @property
    def differences(self) -> tuple[str, ...]:
        """How the run's protocol differs from the benchmark's other one."""
        return scores_of(self.run.benchmark).PROTOCOLS.get(self.run.protocol, ())

    @property
    def name(self) -> str:
        """Model, setting and protocol."""
        return " ".join(part for part in (self.run.model, self.run.setting, self.run.protocol) if part)


@dataclass(frozen=True)
class RunPair:
    """Two runs on the same items. unlike: settings besides the model's in which they differ."""

    first: ScoredRun
    second: ScoredRun
    comparison: Comparison
    unlike: tuple[str, ...]


def pairs_of(scored: Sequence[ScoredRun]) -> list[RunPair]:
    """Every two runs of one benchmark that share items, compared in the order given."""
    pairs = []
    for first, second in itertools.combinations(scored, 2):
        if first.run.benchmark != second.run.benchmark:
            continue
        mean_over = scores_of(first.run.benchmark).MEAN_OVER
        comparison = compare_results(first.run.results, second.run.results, mean_over)
        if comparison:
            pairs.append(RunPair(first, second, comparison, _unlike(first.run, second.run)))
    return pairs


def _unlike(first: BenchmarkRun, second: BenchmarkRun) -> tuple[str, ...]:
    before, after = ({**r.settings, "protocol": r.protocol, "setting": r.setting} for r in (first, second))
    names = sorted(({*before} | {*after}) - OF_THE_MODEL)
    return tuple(name for name in names if before.get(name) != after.get(name))


def read_runs(paths: Sequence[str | Path], benchmark: str | None = None) -> list[BenchmarkRun]:
    """The runs in files and folders, in the order given; published files count as `benchmark`'s.

    A folder is searched for *.result.json, and where it holds none, for published files: those of `benchmark`, or of
    whatever benchmark has files of that name. Raises UserError where there is nothing to read, or a result that is of
    another benchmark, empty, or has two results of one item.
    """
    runs = []
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder; give *.result.json files or published results")
        found = find(path, benchmark) if path.is_dir() else [(path, benchmark)]
        runs += [_checked(file, _read(file, of), benchmark) for file, of in found]
    return runs


def find(folder: Path, benchmark: str | None) -> list[tuple[Path, str | None]]:
    """The files of results under a folder, each with the benchmark that it counts as (None: it says so itself)."""
    ours = sorted(folder.rglob(PATTERN))
    if ours:
        return [(path, benchmark) for path in ours]
    names = [benchmark] if benchmark else benchmark_names()
    patterns = {name: scores_of(name).PUBLISHED for name in names}
    published = [
        (path, name)
        for path in sorted(folder.rglob("*"))
        for name, globs in patterns.items()
        if any(path.match(glob) for glob in globs)
    ]
    if not published:
        what = f" and nothing that {benchmark} publishes" if benchmark else ""
        raise UserError(f"{folder}: no {PATTERN} in it{what}; run an evaluation first, or give its --output_dir")
    return published


def _read(path: Path, benchmark: str | None) -> BenchmarkRun:
    if path.name.endswith(PATTERN.removeprefix("*")):
        return BenchmarkRun.read(path)
    if benchmark is None:
        raise UserError(f"{path}: not called {PATTERN}, and no benchmark is named whose published file it could be")
    return scores_of(benchmark).read(path)


def _is_sound(result: ItemResult) -> bool:
    """Whether the fields have the types and ranges that statistics need."""
    is_share = isinstance(result.value, int | float) and 0 <= result.value <= 1
    are_names = all(isinstance(name, str) for name in (result.id, result.cluster))
    are_tags = isinstance(result.tags, dict) and all(isinstance(tag, str) for tag in result.tags.values())
    return is_share and are_names and are_tags and isinstance(result.shown, dict)


def _checked(path: Path, run: BenchmarkRun, benchmark: str | None) -> BenchmarkRun:
    if benchmark not in (None, run.benchmark):
        raise UserError(f"{path}: a result of {run.benchmark}, not of {benchmark}")
    if not run.results:
        raise UserError(f"{path}: no outcomes in it; nothing can be scored")
    for result in run.results:
        if not _is_sound(result):
            raise UserError(
                f"{path}: outcome {result.id!r}: value must be 0 to 1, cluster text, tags and shown objects"
            )
    name, n_times = Counter(result.id for result in run.results).most_common(1)[0]
    if n_times > 1:
        raise UserError(f"{path}: {n_times} outcomes are called {name!r}; each item must be in it once")
    return run
