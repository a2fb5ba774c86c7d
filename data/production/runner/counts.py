"""Numbers of what a step makes of records: how many go on, and how many do not for which reason."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Numbers of records, of their words, and their seconds."""

    records: int = 0
    words: int = 0
    seconds: float = 0.0

    def add_all(self, numbers: Sequence[tuple[int, float]]) -> None:
        """Count records by their numbers of words and seconds."""
        words, seconds = zip(*numbers, strict=True) if numbers else ((), ())
        self.add(Tally(len(numbers), sum(words), sum(seconds)))

    def add(self, other: "Tally") -> None:
        """Count more; seconds are whole milliseconds, so that sums are the same in any order."""
        self.records += other.records
        self.words += other.words
        self.seconds = round(self.seconds + other.seconds, 3)


@dataclass
class StepCount:
    """What became of the records that came to a step. reasons: of dropped records. categories: of kept ones."""

    n_in: int = 0
    n_failed: int = 0
    kept: Tally = field(default_factory=Tally)
    reasons: dict[str, Tally] = field(default_factory=dict)
    categories: dict[str, Tally] = field(default_factory=dict)

    def add(self, other: "StepCount") -> None:
        """Count more."""
        self.n_in += other.n_in
        self.n_failed += other.n_failed
        self.kept.add(other.kept)
        for mine, its in ((self.reasons, other.reasons), (self.categories, other.categories)):
            for name, tally in its.items():
                mine.setdefault(name, Tally()).add(tally)

    @property
    def n_dropped(self) -> int:
        """Records that do not go on."""
        return sum(tally.records for tally in self.reasons.values())

    @property
    def acceptance(self) -> float:
        """Share of the records that go on; a record's parts count as one."""
        n_out = self.kept.records + self.n_dropped
        return self.kept.records / n_out if n_out else 1.0
