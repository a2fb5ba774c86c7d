"""A result with its scores, and pairs of results compared item by item: what commands print and pages show."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from evaluation.scoring.benchmarks import scores_of
from evaluation.scoring.result import Result
from evaluation.scoring.stats import Comparison, Score, compare_results
from evaluation.scoring.tables import Table

OF_THE_MODEL = {"model", "fingerprint", "published_file"}  # settings that differ whenever two models are compared


@dataclass(frozen=True)
class Scored:
    """A result and how it is counted."""

    result: Result

    @cached_property
    def tables(self) -> list[Table]:
        """The benchmark's tables that have rows; the first row of the first is the headline."""
        return [table for table in scores_of(self.result.benchmark).summary(self.result.outcomes) if table.rows]

    @property
    def headline(self) -> Score:
        """The score that stands for the result."""
        return self.tables[0].rows[0]

    @property
    def n_failed(self) -> int:
        """Items without an answer."""
        return sum(outcome.failed for outcome in self.result.outcomes)

    @property
    def differences(self) -> tuple[str, ...]:
        """How the result's protocol differs from the benchmark's other one."""
        return scores_of(self.result.benchmark).PROTOCOLS.get(self.result.protocol, ())

    @property
    def name(self) -> str:
        """Model, setting and protocol."""
        return " ".join(part for part in (self.result.model, self.result.setting, self.result.protocol) if part)


@dataclass(frozen=True)
class RunPair:
    """Two results on the same items. unlike: settings besides the model's in which they differ."""

    first: Scored
    second: Scored
    comparison: Comparison
    unlike: tuple[str, ...]


def pairs_of(scored: Sequence[Scored]) -> list[RunPair]:
    """Every two results of one benchmark that share items, compared in the order given."""
    pairs = []
    for first, second in itertools.combinations(scored, 2):
        if first.result.benchmark != second.result.benchmark:
            continue
        mean_over = scores_of(first.result.benchmark).MEAN_OVER
        comparison = compare_results(first.result.outcomes, second.result.outcomes, mean_over)
        if comparison:
            pairs.append(RunPair(first, second, comparison, _unlike(first.result, second.result)))
    return pairs


def _unlike(first: Result, second: Result) -> tuple[str, ...]:
    before, after = ({**r.settings, "protocol": r.protocol, "setting": r.setting} for r in (first, second))
    names = sorted(({*before} | {*after}) - OF_THE_MODEL)
    return tuple(name for name in names if before.get(name) != after.get(name))
