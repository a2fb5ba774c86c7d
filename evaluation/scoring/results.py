"""Results of items, the run of a benchmark that holds them as one file, and why items have no answer."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evaluation.scoring.settings_path import settings_path
from utils.errors import UserError
from utils.files import write_whole
from utils.fingerprint import digest

FORMAT = "livecc-result-1"
N_EXAMPLES = 5
UNKNOWN = "no cause is kept"


@dataclass(frozen=True)
class ItemResult:
    """One item's result.

    value: its score, 0 to 1; a failed item has 0. counted: whether the denominator of its protocol has it; failed items
    have left it only where the benchmark's authors leave them out. cluster: the video, by which error bars are
    clustered. tags: category -> group. answer: what was said, None where nothing was; truth: what was right. shown:
    what a page shows beside it (question, options, commentary, reference).
    """

    id: str
    cluster: str
    value: float
    failed: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    answer: Any = None
    truth: Any = None
    shown: dict[str, Any] = field(default_factory=dict)
    counted: bool = True


@dataclass(frozen=True)
class BenchmarkRun:
    """Results of one model on one setting of one benchmark.

    settings: all that decided the answers (store.py). parts: whose prompt, frames, reading and denominator they have
    (protocol.py).
    """

    benchmark: str
    protocol: str
    model: str
    setting: str
    results: list[ItemResult]
    settings: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """8 hex digits of all that sets it apart from runs of the same name: its settings and parts."""
        return digest([self.benchmark, self.protocol, self.setting, self.settings, self.parts])[:8]

    def write(self, folder: Path) -> Path:
        """Write the run's file into a folder, beside those of other settings and of more items; returns its path."""
        stem = "_".join(part for part in (self.model, self.setting, self.protocol) if part)
        path = settings_path(folder, stem, ".result.json", self.key, len(self.results))
        kept = {"format": FORMAT, **asdict(self)}
        settings = kept.pop("settings")
        kept |= {"outcomes": kept.pop("results"), "settings": settings}  # the format's name for results
        write_whole(path, json.dumps(kept, ensure_ascii=False, indent=1) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> "BenchmarkRun":
        """Read such a file. Raises UserError where it is none."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept.pop("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            return cls(results=[ItemResult(**result) for result in kept.pop("outcomes")], **kept)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path}: no result file ({error}); give one that an evaluation wrote") from error


@dataclass(frozen=True)
class FailureCause:
    """A reason why n items have no answer. text: the error of the first of them; items: names of the first few."""

    text: str
    n: int
    items: list[str]


def causes_of(results: Sequence[ItemResult]) -> list[FailureCause]:
    """Causes of failure, the most frequent first. Errors that differ only in paths and numbers are one cause."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for result in results:
        if result.failed:
            error = str(result.shown.get("error") or UNKNOWN)
            kind = re.sub(r"\S*/\S*|'[^']*'|\d+(\.\d+)?", "*", error)
            groups.setdefault(kind, []).append((error, result.id))
    causes = [FailureCause(g[0][0], len(g), [name for _, name in g[:N_EXAMPLES]]) for g in groups.values()]
    return sorted(causes, key=lambda cause: -cause.n)
