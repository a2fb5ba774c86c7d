"""What is asked of a worker, a shard, and what it says when a step is done with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from data.production.runner.store import Marker


@dataclass(frozen=True)
class ShardTask:
    """A shard, and where its records are: in the input as `source` says, or in the file that a step has left.

    poisonous: digests of records that a process died on. suspects: records in whose batch one died.
    """

    shard: int
    digest: str
    source: dict | None = None
    kept: str = ""
    poisonous: frozenset[bytes] = field(default_factory=frozenset)
    suspects: frozenset[bytes] = field(default_factory=frozenset)

    def after_death(self, trying: Sequence[bytes]) -> "ShardTask":
        """The task for the process that follows one that died on these: a second death on one alone settles it."""
        if len(trying) == 1 and trying[0] in self.suspects:
            return replace(self, poisonous=self.poisonous | set(trying))
        return replace(self, suspects=self.suspects | set(trying))


@dataclass(frozen=True)
class ShardReport:
    """A step is done with a shard. step: its number in the run. ran: records worked on now; the others were kept."""

    step: int
    shard: int
    marker: Marker
    kept: str
    ran: int = 0
    took_s: float = 0.0


def after(task: ShardTask, report: ShardReport) -> ShardTask:
    """The shard as the next step finds it."""
    return replace(task, digest=report.marker.digest, source=None, kept=report.kept)
