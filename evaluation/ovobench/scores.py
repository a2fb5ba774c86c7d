"""OVO-Bench's scores: twelve tasks in three groups; the headline is the mean of the groups' means over their tasks."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from evaluation.scoring.foreign import answered, measured, sample_log
from evaluation.scoring.protocol import AUTHORS
from evaluation.scoring.results import BenchmarkRun, ItemResult
from evaluation.scoring.stats import score
from evaluation.scoring.tables import Category, Table, by_categories, overall
from utils.errors import UserError

PROTOCOLS = {
    "livecc": (
        "clips of CRR start when the question is asked, those of all other tasks at 0; they end at the query's time, "
        "but last a second at least, so the first query of CRR sees up to a second beyond its time",
        "frames up to the checkpoint's own limit",
        "the answer is the token with the highest logit: of the query's own letters, of Yes and No, or of 0 to 9, so a "
        "count of 10 or more cannot be given",
    ),
    "official": (
        "all clips start at 0 and end at the query's time, rounded up to a second",
        "64 frames of at most 151,200 pixels, however short the clip",
        "options stand on one line; the authors sample at temperature 0.1, and here decoding is greedy",
        "the answer is generated text: letters, Yes and No count where they occur in it, REC is all its digits joined; "
        "no answer is wrong",
    ),
    "online": (
        "each video is watched once, as it plays, 2 frames a second, and queries are put to the stream at their times",
        "the answer is generated text and read as under official",
    ),
}
GROUPS = {
    "backward": ("EPM", "ASI", "HLD"),
    "realtime": ("OCR", "ACR", "ATR", "STU", "FPD", "OJR"),
    "forward": ("REC", "SSR", "CRR"),
}
TWO_GROUPS = ("backward", "realtime")  # what papers of 2026 report in place of all three
MEAN_OVER = ("group", "task")
SETS = ("*_offline*.json", "*_online*.json", "*samples_ovo*.jsonl")  # files of one model's results
PUBLISHED = SETS
BY_GROUP = Category("group", "Group", tuple(GROUPS), mean_over=("task",))
BY_TASK = Category("task", "Task", tuple(task for tasks in GROUPS.values() for task in tasks))


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """The mean of the three groups, and of the first two; each group, the mean over its tasks; each task."""
    note = "mean over groups of the mean over each group's tasks"
    head = overall("mean of groups", results, MEAN_OVER, note)
    two = [result for result in results if result.tags.get("group") in TWO_GROUPS]
    if {result.tags["group"] for result in two} == {*TWO_GROUPS} and len(two) < len(results):
        head.rows.append(score("(backward + realtime) / 2", two, MEAN_OVER))
    return [head, *by_categories(results, (BY_GROUP, BY_TASK))]


def find_sets(folder: Path) -> list[Path]:
    """Folders of the authors' result files: a set is several files, each of some of the tasks."""
    return sorted({path.parent for pattern in SETS for path in folder.rglob(pattern)})


def read(path: Path) -> BenchmarkRun:
    """The authors' results, a file or a folder of the files of one set, or lmms-eval's samples of its OVO-Bench tasks.

    Answers are read as the authors read them. Raises UserError where it is no such file.
    """
    files = [file for pattern in SETS for file in sorted(path.glob(pattern))] if path.is_dir() else [path]
    results, seen = [], Counter()
    for result in (result for file in files for result in (_samples if file.suffix == ".jsonl" else _published)(file)):
        seen[result.id] += 1  # published sets have rows twice, and the authors count both
        n_seen = seen[result.id]
        results.append(result if n_seen == 1 else replace(result, id=f"{result.id} ({n_seen})"))
    model = path.name if path.is_dir() else path.parent.name
    parts = {"reading": AUTHORS, "denominator": AUTHORS}
    return BenchmarkRun("ovobench", "published", model, "", results, {"published_file": path.name}, parts)


def _published(path: Path) -> Iterator[ItemResult]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        for row in [*kept["backward"], *kept["realtime"]]:
            yield _result(str(row["id"]), row, row["response"], row["ground_truth"])
        for row in kept.get("forward", ()):
            yield from _forward(row)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path}: no result file of OVO-Bench ({type(error).__name__}: {error}); expected lists backward, realtime "
            "and forward with their responses, or a *.result.json"
        ) from error


def _samples(path: Path) -> Iterator[ItemResult]:
    for row in sample_log(path):
        if found := measured(row, "response", "ground_truth"):
            yield _result(str(found["id"]), found, found["response"], found["ground_truth"])
        elif found := measured(row, "test_info"):
            yield from _forward(found)
        else:
            raise UserError(
                f"{path}: sample {row['doc_id']} holds neither response nor test_info: not a log of OVO-Bench"
            )


def _forward(row: dict) -> Iterator[ItemResult]:
    """A result for each time at which a forward task was asked."""
    for number, info in enumerate(row["test_info"]):
        truth = str(info["count"]) if row["task"] == "REC" else ("No", "Yes")[info["type"]]
        yield _result(f"{row['id']}_{number}", row, info["response"], truth)


def _result(name: str, row: dict, response: object, truth: str) -> ItemResult:
    said = response[0] if isinstance(response, list) and response else response
    said = None if said is None or (said and not answered(said)) else said
    group = next(group for group, tasks in GROUPS.items() if row["task"] in tasks)
    shown = {"question": row.get("question", "")} | ({} if said is not None else {"error": "the file has no response"})
    return ItemResult(
        name, str(row.get("video", name.split("_")[0])),
        0.0 if said is None else is_right(row["task"], str(said), truth), said is None,
        {"task": row["task"], "group": group}, said, truth, shown,
    )  # fmt: skip


def is_right(task: str, response: str, truth: str) -> float:
    """1 where a written answer is right: letters, Yes and No where they occur in it, a count as all its digits joined.

    An answer without any is wrong. utils/OVOBenchScore.py of the benchmark's repository.
    """
    if task == "REC":
        return float("".join(re.findall(r"\d+", response)) == truth)
    if truth in ("No", "Yes") and response == truth[0]:
        return 1.0
    return float(truth in response)
