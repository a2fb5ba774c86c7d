"""Benchmarks of lettered questions about whole videos: what sets each apart is declared, the rest is one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from evaluation.scoring.protocol import AUTHORS, OURS, SEED, Parts
from evaluation.tasks.hub_rows import HubSet, read_rows
from evaluation.tasks.item import ClipPlan, Item, Written
from evaluation.tasks.lines import BenchmarkLine, LineArguments, VideoFolders, make_items
from evaluation.tasks.multiple_choice import choice, with_letters
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task, is_the_letter
from utils.arguments import helped


@dataclass(frozen=True)
class LetterQuestion:
    """One question. videos: names that its video may have. options: letter -> text. truth: a letter."""

    id: str
    video_id: str
    videos: tuple[str, ...]
    question: str
    options: dict[str, str]
    truth: str
    tags: dict[str, str]


@dataclass(frozen=True)
class LetterBenchmark:
    """What sets a benchmark apart.

    files: pattern of the questions' files in a folder of the benchmark. questions: a row's questions. template, prefix:
    of the authors' prompt, and how the reply is begun for the model. bracketed: options as "(A) text", else "A. text".
    n_frames: as the authors show, None where they fix none. letter: the authors' way to find the letter in an answer.
    own_parts: what is not the authors' under `official` either.
    """

    name: str
    hub: HubSet
    folders: tuple[str, ...]
    questions: Callable[[BenchmarkLine], Iterable[LetterQuestion]]
    template: str
    letter: Callable[[str], str]
    bracketed: bool = False
    prefix: str = ""
    n_frames: int | None = None
    max_new_tokens: int = 16
    own_parts: dict[str, Any] = field(default_factory=dict)
    files: str | None = None

    def rows(self, name: str, skipped: list[str] | None) -> list[BenchmarkLine]:
        """Rows of a file, of the files of a folder, or of a hub id. Raises UserError where there are none."""
        files = sorted(Path(name).glob(self.files)) if self.files and Path(name).is_dir() else []
        return [row for file in files or [name] for row in read_rows(str(file), self.hub, skipped=skipped)]


@dataclass
class LetterArguments(LineArguments):
    """The questions, their videos, and how they are asked."""

    benchmark_path: str = field(
        metadata={"help": "a file of questions (JSON, JSON lines, parquet), a folder of the benchmark, or a hub id"}
    )
    video_dir: str | None = helped(None, "folder of the videos, or folders in it; default: beside the questions")
    protocol: Literal["livecc", "official"] = helped(
        "livecc", "livecc: logits of the option letters; official: as the authors ask and read"
    )

    def videos(self, benchmark: LetterBenchmark) -> VideoFolders:
        """Where the videos are looked for."""
        path = Path(self.benchmark_path)
        beside = path.parent if path.is_file() else path if path.is_dir() else benchmark.hub.folder
        folders = [beside / name for name in benchmark.folders if (beside / name).is_dir()] or [beside]
        remedy = f"get the videos with: {benchmark.hub.command}, unpack them there, or name the folder with --video_dir"
        return VideoFolders([Path(self.video_dir)] if self.video_dir else folders, remedy, nested=True)


def load_letters(
    benchmark: LetterBenchmark, arguments: LetterArguments, templates: PromptTemplates, limit: int | None = None
) -> Task:
    """The questions of a benchmark. Raises UserError where there are none or a line lacks what is needed."""
    skipped, videos = arguments.skipped(), arguments.videos(benchmark)
    rows = benchmark.rows(arguments.benchmark_path, skipped)
    is_official = arguments.protocol == "official"

    def make(line: BenchmarkLine) -> Iterable[Item]:
        return (_item(asked, benchmark, is_official, videos, templates) for asked in benchmark.questions(line))

    items = make_items(rows, make, skipped)[:limit]
    parts = Parts(templates.origin(), OURS, SEED, AUTHORS)
    value = is_the_letter
    if is_official:
        parts = Parts(templates.origin(), AUTHORS, AUTHORS, AUTHORS).changed(benchmark.own_parts)
        value = partial(_has_the_letter, benchmark.letter)
    return Task(benchmark.name, arguments.protocol, items, value, templates.hashes, parts=parts, skipped=skipped)


def _has_the_letter(letter: Callable[[str], str], item: Item, response: str) -> float:
    return float(letter(response) == item.truth)


def _item(
    asked: LetterQuestion,
    benchmark: LetterBenchmark,
    is_official: bool,
    videos: VideoFolders,
    templates: PromptTemplates,
) -> Item:
    path, problem = videos.find(*asked.videos)
    frames: dict[str, int] = {}
    if is_official:
        listed = with_letters(asked.options)
        if benchmark.bracketed:
            listed = [f"({letter}) {text}" for letter, text in asked.options.items()]
        text = templates.fill(benchmark.template, question=asked.question, options="\n".join(listed))
        ask = Written(text, benchmark.max_new_tokens, benchmark.prefix)
        if benchmark.n_frames:
            frames = {"min_frames": benchmark.n_frames, "max_frames": benchmark.n_frames}
    else:
        ask = choice(templates, asked.question, asked.options)
    return Item(
        id=asked.id,
        video_id=asked.video_id,
        ask=ask,
        truth=asked.truth,
        clip=None if path is None else ClipPlan(str(path), **frames),
        problem=problem,
        tags=asked.tags,
        shown={"question": asked.question, "options": with_letters(asked.options), "video": asked.videos[0]},
    )
