"""A benchmark made ready: its items under one protocol, and how an answer to one of them scores."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from evaluation.scoring.protocol import Parts
from evaluation.scoring.results import BenchmarkRun, ItemResult
from evaluation.tasks.item import Item

Exporter = Callable[[BenchmarkRun, Path], None]


@dataclass(frozen=True)
class Task:
    """What a run asks.

    benchmark: its name in evaluation/scoring/benchmarks.py. value: (item, response) -> score, 0 to 1; None where
    another command judges the answers. templates: hashes of the templates in use. export: writes a result in the
    benchmark's published formats as well. parts: whose each part of the protocol is. skipped: what was wrong with
    lines that were left out. value_of_steps: (item, stored row) -> score of what was said at its times; None: `value`
    counts. is_counted: (item, response) -> whether the protocol's denominator has it, "" being the response of a
    failed item.
    """

    benchmark: str
    protocol: str
    items: list[Item]
    value: Callable[[Item, str], float] | None
    templates: dict[str, str] = field(default_factory=dict)
    export: Exporter | None = None
    parts: Parts | None = None
    skipped: list[str] | None = None
    value_of_steps: Callable[[Item, dict], float | None] = lambda item, row: None
    is_counted: Callable[[Item, str], bool] = lambda item, response: True

    @property
    def settings(self) -> list[str]:
        """Its settings, in the order of their first items."""
        return list(dict.fromkeys(item.setting for item in self.items))

    def result(self, item: Item, row: dict) -> ItemResult:
        """What the stored row of an item is worth."""
        failed = row["error"] is not None
        shown = {**item.shown, "clip": item.clip and asdict(item.clip)}
        if row["steps"]:
            shown["steps"] = row["steps"]
        if row["logits"]:
            shown["logits"] = row["logits"]
        if failed:
            shown["error"] = row["error"]
        value = 0.0
        if not failed:
            by_steps = self.value_of_steps(item, row)
            value = self.value(item, row["response"]) if by_steps is None else by_steps
        answer = None if failed else row["response"]
        return ItemResult(
            item.id, item.video_id, value, failed, dict(item.tags), answer, item.truth, shown,
            counted=self.is_counted(item, answer or ""),
        )  # fmt: skip


def is_the_letter(item: Item, response: str) -> float:
    """1 where a chosen option is the right one."""
    return float(response == item.truth)
