"""MVBench: twenty tasks about what changes over time in short videos."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evaluation.mvbench.annotations import FOLDERS, bounds_of, find_task_video, mvbench_task, read_questions
from evaluation.mvbench.scores import task_stem
from evaluation.scoring.protocol import AUTHORS, SEED, Parts
from evaluation.tasks.item import Choice, ClipPlan, Item, Written
from evaluation.tasks.lines import BenchmarkLine, LineArguments, make_items
from evaluation.tasks.multiple_choice import choice, lettered, letters_of, listed_options, right_letter, with_letters
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.reading import mvbench_is_right
from evaluation.tasks.task import Task, is_the_letter
from utils.arguments import helped

FOLDER_FPS = {"livecc": 2.0, "official": 3.0}  # TVQA's frames were taken 3 a second
OFFICIAL_FRAMES = 16
OFFICIAL_PREFIX = "Best option:("
OFFICIAL_TOKENS = 16


@dataclass
class MVBenchArguments(LineArguments):
    """The questions, their videos, and how they are asked."""

    benchmark_path: str = field(
        metadata={
            "help": "a file of lines, the benchmark's folder of json/ and video/, or a hub id (OpenGVLab/MVBench)"
        }
    )
    video_dir: str | None = helped(None, "folder of the videos; default: video/ beside them", path="folder")
    protocol: Literal["livecc", "official"] = helped(
        "livecc", "livecc: whole videos, logits; official: start to end, 16 frames, text after 'Best option:('"
    )


def load_task(arguments: MVBenchArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions. Raises UserError where there are none or one lacks what is needed."""
    skipped = arguments.skipped()
    lines = read_questions(arguments.benchmark_path, limit, skipped)
    items = make_items(lines, lambda line: [_make_item(line, arguments, templates)], skipped)
    if arguments.protocol == "livecc":
        parts = Parts(templates.origin(), SEED, SEED, AUTHORS)
        return Task("mvbench", "livecc", items, is_the_letter, templates.hashes, parts=parts, skipped=skipped)
    parts = Parts(templates.origin(), AUTHORS, AUTHORS, AUTHORS)
    return Task("mvbench", "official", items, official_value, templates.hashes, parts=parts, skipped=skipped)


def official_value(item: Item, response: str) -> float:
    """1 where the authors' check finds the right option in what follows "Best option:("."""
    texts = dict(zip(letters_of(item.shown["options"]), item.shown["options"], strict=True))
    return float(mvbench_is_right(response, item.truth, texts[item.truth]))


def _make_item(line: BenchmarkLine, arguments: MVBenchArguments, templates: PromptTemplates) -> Item:
    """One question."""
    task = mvbench_task(line)
    options = options_of(line)
    path, problem = find_task_video(line, arguments.benchmark_path, arguments.video_dir)
    return Item(
        id=f"{task_stem(task)}_{line.get('question_id', line.number)}",
        video_id=f"{FOLDERS[task][0]}/{line['video']}",  # tasks share folders, and folders names
        ask=ask_of(line, options, arguments.protocol, templates),
        truth=right_letter(options, line),
        clip=None if path is None else plan(line, path, arguments.protocol),
        problem=problem,
        tags={"task_type": task},
        shown={"question": line["question"], "options": with_letters(options), "video": line["video"]},
    )


def ask_of(line: BenchmarkLine, options: dict[str, str], protocol: str, templates: PromptTemplates) -> Choice | Written:
    """The question as the seed puts it, or as the authors do: options as "(A) text", the reply begun for the model."""
    if protocol == "livecc":
        return choice(templates, line["question"], options)
    listed = "\n".join(f"({letter}) {text}" for letter, text in options.items())
    text = templates.fill("mvbench_official", question=line["question"], options=listed)
    return Written(text, OFFICIAL_TOKENS, OFFICIAL_PREFIX)


def options_of(line: BenchmarkLine) -> dict[str, str]:
    """Options by letter: lettered `options`, or the published `candidates`, which have none."""
    if "candidates" in line.fields:
        return {chr(ord("A") + i): text for i, text in enumerate(listed_options(line, "candidates"))}
    return lettered(listed_options(line), line)


def plan(line: BenchmarkLine, path: Path, protocol: str) -> ClipPlan:
    """Clip plan: the whole video, or with `official` 16 frames of what lies between the bounds of a bounded task."""
    frames: dict[str, Any] = {}
    if protocol == "official":
        frames = {**bounds_of(line), "min_frames": OFFICIAL_FRAMES, "max_frames": OFFICIAL_FRAMES}
    return ClipPlan(str(path), **frames, folder_fps=FOLDER_FPS[protocol] if path.is_dir() else None)
