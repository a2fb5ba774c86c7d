"""OVO-Bench: questions about a video that is still running, each at its time; forward tasks ask again and again."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evaluation.ovobench.annotations import TASK_GROUPS, ovobench_task
from evaluation.ovobench.scores import is_right
from evaluation.scoring.protocol import AUTHORS, OURS, SEED, Parts
from evaluation.tasks.item import Choice, ClipPlan, Item, MidStream, Written
from evaluation.tasks.lines import BenchmarkLine, LineArguments, VideoFolders, make_items, read_benchmark
from evaluation.tasks.multiple_choice import choice, lettered, listed_options, with_letters
from evaluation.tasks.online import OnlineArguments, mid_stream, with_recent_frames
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task, is_the_letter
from utils.arguments import helped
from utils.errors import UserError

LINES = "ovo-bench-formatted.jsonl"
ANSWER_PREFIX = "The answer is:\n"
COUNTS = tuple("0123456789")
YES_NO = ("No", "Yes")
OFFICIAL_FRAMES = 64
OFFICIAL_PIXELS = 360 * 420  # of a frame: qwen_vl_utils' most for a video that is given as a file
OFFICIAL_TOKENS = 256
ONLINE_TOKENS = 64
REMEDY = (
    "get the benchmark's source videos: hf download JoeLeelyf/OVO-Bench --repo-type dataset --local-dir FOLDER, join "
    "its src_videos.tar.part* and unpack them there (clips that were cut before are not used)"
)


@dataclass
class OVOBenchArguments(LineArguments, OnlineArguments):
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
    make = {"livecc": _make_item, "official": _make_official_item, "online": _make_online_item}[arguments.way]
    skipped, videos = arguments.skipped(), VideoFolders([folder], REMEDY)
    lines = read_benchmark(folder / LINES, limit, skipped)
    items = make_items(lines, lambda line: [make(line, videos, templates)], skipped)
    value = is_the_letter if arguments.way == "livecc" else official_value
    parts = {
        "livecc": Parts(templates.origin(), SEED, SEED, AUTHORS),
        "official": Parts(templates.origin(), AUTHORS, AUTHORS, AUTHORS),
        "online": Parts(templates.origin(), OURS, AUTHORS, AUTHORS),
    }[arguments.way]
    task = Task("ovobench", arguments.way, items, value, templates.hashes, parts=parts, skipped=skipped)
    return with_recent_frames(task, arguments.recent_frames)


def _make_item(line: BenchmarkLine, videos: VideoFolders, templates: PromptTemplates) -> Item:
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
    return _item(line, videos, ask, window)


def _make_official_item(line: BenchmarkLine, videos: VideoFolders, templates: PromptTemplates) -> Item:
    """A query as the benchmark's authors ask it: 64 frames of all that went before, and a written answer."""
    ask = Written(official_prompt(line, templates), OFFICIAL_TOKENS)
    end_s = float(math.ceil(line.seconds("realtime")))
    frames = {"min_frames": OFFICIAL_FRAMES, "max_frames": OFFICIAL_FRAMES, "max_pixels": OFFICIAL_PIXELS}
    return _item(line, videos, ask, {"end_s": end_s, **frames})


def _make_online_item(line: BenchmarkLine, videos: VideoFolders, templates: PromptTemplates) -> Item:
    """A query put to a stream that has been watched from its start to the query's time."""
    ask = mid_stream(official_prompt(line, templates), ONLINE_TOKENS)
    return _item(line, videos, ask, {"end_s": line.seconds("realtime"), "rule": "stream"})


def official_prompt(line: BenchmarkLine, templates: PromptTemplates) -> str:
    """What the authors ask, in the words of the templates: options stand on one line, "A. one; B. two;"."""
    options = _options(line)
    if not options:
        return forward_prompt(line, templates)
    listed = "".join(f"{option}; " for option in with_letters(options)).strip()
    return templates.fill("ovobench_choice", question=line["question"], options=listed)


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
    """1 where a written answer is right, as the authors read it."""
    return is_right(item.tags["task"], response, item.truth)


def _options(line: BenchmarkLine) -> dict[str, str]:
    """The options of a query; a forward one has none."""
    return {} if TASK_GROUPS[ovobench_task(line)] == "forward" else lettered(listed_options(line), line)


def _item(line: BenchmarkLine, videos: VideoFolders, ask: Choice | Written | MidStream, window: dict) -> Item:
    task = ovobench_task(line)
    path, problem = videos.find(line["video"])
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
