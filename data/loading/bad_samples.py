"""Samples that could not be used: counted by cause, logged once with their line; too many stop the run."""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from data.loading.dataset import BadSample
from utils.errors import UserError
from utils.files import write_whole

logger = logging.getLogger(__name__)

# A share is judged from so many samples on (or from one whole pass over a shorter file).
JUDGED_FROM = 200


class TooManyBadSamples(UserError):
    """More samples were bad than --max_bad_samples allows."""


@dataclass
class BadSampleLog:
    """What one process saw: `seen` samples, good ones included, and the bad ones among them.

    limit: largest share allowed, in 0..1. A sample met again in a later pass counts again, and is listed
    once. counts: what encoding the good ones counted (words left out, ...).
    """

    limit: float = 0.01
    seen: int = 0
    n_bad: int = 0
    records: dict[str, dict] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)

    def add_good(self, counts: Mapping[str, int]) -> None:
        """Count a good sample and what was counted in encoding it."""
        self.seen += 1
        self.counts.update(counts)

    def add(self, bad: BadSample) -> None:
        """Count a bad sample; the first time, say which line it is and what is wrong with it."""
        self.seen += 1
        self.n_bad += 1
        record = self.records.setdefault(
            f"{bad.path}:{bad.line_no}", {**asdict(bad), "path": str(bad.path), "times": 0}
        )
        record["times"] += 1
        if record["times"] == 1:
            logger.warning("skipped (%s) %s", bad.cause, bad.message)

    def by_cause(self) -> dict[str, int]:
        """Number of bad samples by cause, the most frequent first."""
        causes: Counter[str] = Counter()
        for record in self.records.values():
            causes[record["cause"]] += record["times"]
        return dict(causes.most_common())

    def check(self, least_seen: int = 1) -> None:
        """Raise TooManyBadSamples where the bad share is over the limit, from `least_seen` samples seen on."""
        if self.seen < least_seen or self.n_bad <= self.limit * self.seen:
            return
        worst = max(self.records.values(), key=lambda record: record["times"])
        causes = ", ".join(f"{cause} {n}" for cause, n in self.by_cause().items())
        raise TooManyBadSamples(
            f"{self.n_bad} of {self.seen} samples could not be used ({causes}), more than --max_bad_samples "
            f"{self.limit:g} allows; for example {worst['message']}. "
            "Mend or remove those lines (the bad-sample report lists them), or raise --max_bad_samples"
        )

    def state_dict(self) -> dict:
        """Everything but the limit, which a resumed run may change."""
        return {"seen": self.seen, "records": list(self.records.values()), "counts": dict(self.counts)}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state_dict."""
        self.seen, self.counts = state["seen"], Counter(state["counts"])
        self.records = {f"{one['path']}:{one['line_no']}": dict(one) for one in state["records"]}
        self.n_bad = sum(one["times"] for one in self.records.values())


def write_report(path: Path, logs: Iterable[BadSampleLog], stopped: bool = False) -> None:
    """Write one JSON report of all processes' logs: totals, counts by cause, and every bad sample once."""
    merged = BadSampleLog()
    for log in logs:
        merged.limit, merged.seen = log.limit, merged.seen + log.seen
        merged.n_bad += log.n_bad
        merged.counts.update(log.counts)
        for key, record in log.records.items():
            times = merged.records.get(key, {"times": 0})["times"]
            merged.records[key] = {**record, "times": times + record["times"]}
    report = {
        "samples_seen": merged.seen,
        "bad_samples": merged.n_bad,
        "share": merged.n_bad / max(merged.seen, 1),
        "max_bad_samples": merged.limit,
        "stopped_the_run": stopped,
        "by_cause": merged.by_cause(),
        "counts_in_good_samples": dict(merged.counts),
        "samples": list(merged.records.values()),
    }
    write_whole(path, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
