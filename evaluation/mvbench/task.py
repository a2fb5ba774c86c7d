"""MVBench: twenty tasks about what changes over time in short videos."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evaluation.mvbench.annotations import FOLDERS, bounds_of, file_stem, find_task_video, mvbench_task, read_questions
from evaluation.tasks.item import ClipPlan, Item
from evaluation.tasks.lines import BenchmarkLine
from evaluation.tasks.multiple_choice import choice, lettered, listed_options, right_letter, with_letters
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task, is_the_letter
from utils.arguments import helped

FOLDER_FPS = {"livecc": 2.0, "official": 3.0}  # TVQA's frames were taken 3 a second


@dataclass
class MVBenchArguments:
    """The questions, their videos, and how they are asked."""

    benchmark_path: str = field(
        metadata={
            "help": "a file of lines, the benchmark's folder of json/ and video/, or a hub id (OpenGVLab/MVBench)"
        }
    )
    video_dir: str | None = helped(None, "folder of the videos; default: video/ beside them", path="folder")
    protocol: Literal["livecc", "official"] = helped(
        "livecc", "livecc: whole videos, folders at 2 fps; official: start to end, at 3 fps"
    )


def load_task(arguments: MVBenchArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions. Raises UserError where there are none or one lacks what is needed."""
    lines = read_questions(arguments.benchmark_path, limit)
    items = [_make_item(line, arguments, templates) for line in lines]
    return Task("mvbench", arguments.protocol, items, is_the_letter, templates.hashes)


def _make_item(line: BenchmarkLine, arguments: MVBenchArguments, templates: PromptTemplates) -> Item:
    """One question."""
    task = mvbench_task(line)
    options = options_of(line)
    path, problem = find_task_video(line, arguments.benchmark_path, arguments.video_dir)
    return Item(
        id=f"{file_stem(task)}_{line.get('question_id', line.number)}",
        video_id=f"{FOLDERS[task][0]}/{line['video']}",  # tasks share folders, and folders names
        ask=choice(templates, line["question"], options),
        truth=right_letter(options, line),
        clip=None if path is None else plan(line, path, arguments.protocol),
        problem=problem,
        tags={"task_type": task},
        shown={"question": line["question"], "options": with_letters(options), "video": line["video"]},
    )


def options_of(line: BenchmarkLine) -> dict[str, str]:
    """Options by letter: lettered `options`, or the published `candidates`, which have none."""
    if "candidates" in line.fields:
        return {chr(ord("A") + i): text for i, text in enumerate(listed_options(line, "candidates"))}
    return lettered(listed_options(line), line)


def plan(line: BenchmarkLine, path: Path, protocol: str) -> ClipPlan:
    """Clip plan: the whole video, or with `official` what lies between the bounds of a bounded task."""
    bounds = bounds_of(line) if protocol == "official" else {}
    return ClipPlan(str(path), **bounds, folder_fps=FOLDER_FPS[protocol] if path.is_dir() else None)
