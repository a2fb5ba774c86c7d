"""What a run has done, for its report and its exit status."""

from dataclasses import dataclass
from pathlib import Path

from data.production.runner.link import Link
from data.production.runner.progress import Progress


@dataclass
class RunResult:
    """What a run has done. links and counts belong together; files: lines by name."""

    folder: Path
    links: list[Link]
    progress: Progress
    kept: list[Path]
    dropped: dict[int, list[Path]]
    files: dict[str, int]

    @property
    def n_failed(self) -> int:
        """Records that a stage could not work on."""
        return sum(count.n_failed for count in self.progress.counts)
