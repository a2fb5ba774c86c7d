"""Runs of benchmarks: found on disk (own files and published ones), scored, and compared item by item in pairs."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from evaluation.scoring.benchmarks import benchmark_names, scores_of
from evaluation.scoring.protocol import asked_protocol
from evaluation.scoring.results import BenchmarkRun, ItemResult
from evaluation.scoring.stats import Comparison, Score, compare_results, score
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
        """The benchmark's tables, over the items that count; the first row of the first is the headline."""
        counted = [result for result in self.run.results if result.counted]
        if not counted:
            return [Table("Overall", [], "no item has an answer that the protocol counts")]
        first, *others = (table for table in scores_of(self.run.benchmark).summary(counted) if table.rows)
        if self.headline_problem:
            return [Table(first.title, [], f"no {first.rows[0].name}: {self.headline_problem}"), *others]
        if self.n_left_out:
            all_of_them = score("left-out items as wrong", self.run.results, scores_of(self.run.benchmark).MEAN_OVER)
            first = replace(first, rows=[*first.rows, all_of_them])
        return [first, *others]

    @property
    def headline(self) -> Score | None:
        """Headline score of the run; None where too much is missing for one."""
        return next(iter(self.tables[0].rows), None)

    @cached_property
    def headline_problem(self) -> str:
        """Why there is no headline; "" where there is one."""
        find = getattr(scores_of(self.run.benchmark), "headline_problem", None)
        return find(self.run.results) if find else ""

    @property
    def n_left_out(self) -> int:
        """Number of items that the protocol's denominator leaves out."""
        return sum(not result.counted for result in self.run.results)

    @property
    def n_failed(self) -> int:
        """Number of items without an answer."""
        return sum(result.failed for result in self.run.results)

    @property
    def differences(self) -> tuple[str, ...]:
        """How the run's protocol differs from the benchmark's others."""
        return scores_of(self.run.benchmark).PROTOCOLS.get(asked_protocol(self.run.protocol), ())

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
    """Every two runs of one benchmark that share items, compared in the order given.

    Items are matched by their ids; where two harnesses have none in common, by their questions and options.
    """
    pairs = []
    for first, second in itertools.combinations(scored, 2):
        if first.run.benchmark != second.run.benchmark:
            continue
        mean_over = scores_of(first.run.benchmark).MEAN_OVER
        comparison = compare_results(first.run.results, second.run.results, mean_over) or compare_results(
            _by_question(first.run.results), _by_question(second.run.results), mean_over
        )
        if comparison:
            pairs.append(RunPair(first, second, comparison, _unlike(first.run, second.run)))
    return pairs


def _by_question(results: Sequence[ItemResult]) -> list[ItemResult]:
    """Results named by question and options; those that are there twice, or without a question, are left out."""
    named = [
        replace(result, id=f"{result.shown['question']} {result.shown.get('options', '')}")
        for result in results
        if result.shown.get("question")
    ]
    counts = Counter(result.id for result in named)
    return [result for result in named if counts[result.id] == 1]


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
    published = sorted((path, name) for name in names for path in _published_in(folder, name))
    if not published:
        what = f" and nothing that {benchmark} publishes" if benchmark else ""
        raise UserError(f"{folder}: no {PATTERN} in it{what}; run an evaluation first, or give its --output_dir")
    return published


def _published_in(folder: Path, benchmark: str) -> list[Path]:
    """What a benchmark's reader takes in a folder: files, or folders of files that belong together."""
    module = scores_of(benchmark)
    if find_sets := getattr(module, "find_sets", None):
        return find_sets(folder)
    return [path for path in folder.rglob("*") if any(path.match(glob) for glob in module.PUBLISHED)]


def _read(path: Path, benchmark: str | None) -> BenchmarkRun:
    if path.name.endswith(PATTERN.removeprefix("*")):
        return BenchmarkRun.read(path)
    named = [name for name in benchmark_names() if any(path.match(glob) for glob in scores_of(name).PUBLISHED)]
    if benchmark is None and len(named) != 1:
        raise UserError(f"{path}: not called {PATTERN}, and no benchmark is named whose published file it could be")
    return scores_of(benchmark or named[0]).read(path)


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
