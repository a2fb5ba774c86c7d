"""OVO-Bench: questions about a video that is still running, each at its time; forward tasks ask again and again."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evaluation.ovobench.annotations import TASK_GROUPS, ovobench_task
from evaluation.tasks.item import Choice, ClipPlan, Item, Written
from evaluation.tasks.lines import BenchmarkLine, find_video, read_benchmark
from evaluation.tasks.multiple_choice import choice, lettered, listed_options, with_letters, written_choice
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task, is_the_letter
from utils.arguments import helped
from utils.errors import UserError

LINES = "ovo-bench-formatted.jsonl"
ANSWER_PREFIX = "The answer is:\n"
COUNTS = tuple("0123456789")
YES_NO = ("No", "Yes")
OFFICIAL_FRAMES = 64
OFFICIAL_TOKENS = 256
REMEDY = (
    "get the benchmark's source videos: hf download JoeLeelyf/OVO-Bench --repo-type dataset --local-dir FOLDER, join "
    "its src_videos.tar.part* and unpack them there (clips that were cut before are not used)"
)


@dataclass
class OVOBenchArguments:
    """The benchmark's folder, and what is asked."""

    benchmark_dir: str = field(metadata={"help": f"folder of the videos' folders and {LINES}", "path": "folder"})
    protocol: Literal["livecc", "official"] = helped(
        "livecc", "livecc: logits, CRR clips from ask_time; official: written, clips from 0"
    )


def load_task(arguments: OVOBenchArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The queries of a formatted file. Raises UserError where it is missing or a line lacks what is needed."""
    folder = Path(arguments.benchmark_dir)
    if not (folder / LINES).is_file():
        raise UserError(
            f"{folder / LINES}: no such file; make it with: python evaluation/ovobench/transfer_annotation_format.py "
            f"--input {folder / 'ovo_bench_new.json'} --output {folder / LINES}"
        )
    make = {"livecc": _make_item, "official": _make_official_item}[arguments.protocol]
    items = [make(line, folder, templates) for line in read_benchmark(folder / LINES, limit)]
    value = is_the_letter if arguments.protocol == "livecc" else official_value
    return Task("ovobench", arguments.protocol, items, value, templates.hashes)


def _make_item(line: BenchmarkLine, folder: Path, templates: PromptTemplates) -> Item:
    """A query as the seed asks it: one token among the answers of its kind."""
    task, time_s = ovobench_task(line), line.seconds("realtime")
    start_s = line.seconds("ask_time") if task == "CRR" else 0.0
    # The published reader shows at least a second; CRR's first query is asked at ask_time itself.
    window = {"start_s": start_s or None, "end_s": max(time_s, start_s + 1)}
    options = _options(line)
    if options:
        ask = Choice(choice(templates, line["question"], options).text, ANSWER_PREFIX, tuple(options), spaced=False)
    else:
        answers = COUNTS if task == "REC" else YES_NO
        ask = Choice(forward_prompt(line, templates), ANSWER_PREFIX, answers, spaced=False)
    return _item(line, folder, ask, window)


def _make_official_item(line: BenchmarkLine, folder: Path, templates: PromptTemplates) -> Item:
    """A query as the benchmark's authors ask it: 64 frames of all that went before, and a written answer."""
    options = _options(line)
    if options:
        ask = written_choice(templates, line["question"], options, OFFICIAL_TOKENS)
    else:
        ask = Written(forward_prompt(line, templates), OFFICIAL_TOKENS)
    window = {"end_s": float(math.ceil(line.seconds("realtime"))), "max_frames": OFFICIAL_FRAMES}
    return _item(line, folder, ask, window)


def forward_prompt(line: BenchmarkLine, templates: PromptTemplates) -> str:
    """What a forward task asks at each of its times."""
    match line["task"]:
        case "REC":
            return templates.fill("ovobench_rec", activity=line["activity"])
        case "SSR":
            return templates.fill("ovobench_ssr", step=line["step"])
        case _:
            return templates.fill("ovobench_crr", question=line["question"])


def official_value(item: Item, response: str) -> float:
    """1 where a written answer is right: letters, Yes and No where they occur in it, a count as all its digits joined.

    An answer without any is wrong. utils/OVOBenchScore.py of the benchmark's repository.
    """
    if item.tags["task"] == "REC":
        return float("".join(re.findall(r"[0-9]+", response)) == item.truth)
    if item.truth in YES_NO and response == item.truth[0]:
        return 1.0
    return float(item.truth in response)


def _options(line: BenchmarkLine) -> dict[str, str]:
    """The options of a query; a forward one has none."""
    return {} if TASK_GROUPS[ovobench_task(line)] == "forward" else lettered(listed_options(line), line)


def _item(line: BenchmarkLine, folder: Path, ask: Choice | Written, window: dict) -> Item:
    task = ovobench_task(line)
    path, problem = find_video(line["video"], [folder], REMEDY)
    shown = {"question": ask.text, "video": line["video"], "time_s": line.seconds("realtime")}
    if options := _options(line):
        shown |= {"question": line["question"], "options": with_letters(options)}
    return Item(
        id=line["id"],
        video_id=line["video"],
        ask=ask,
        truth=str(line["answer"]),
        clip=None if path is None else ClipPlan(str(path), **window),
        problem=problem,
        tags={"task": task, "group": TASK_GROUPS[task]},
        shown=shown,
    )
