"""What is asked of a worker, a shard, and what it says when a link is done with it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from data.production.runner.store import Done


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


def after(job: Job, report: Report) -> Job:
    """The shard as the next link finds it."""
    return replace(job, digest=report.done.digest, source=None, kept=report.kept)
