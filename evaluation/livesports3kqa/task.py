"""LiveSports-3K-QA: questions with four options about short sports videos, some of which need text to be read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evaluation.tasks.hub_rows import HubSet, read_rows, video_folders
from evaluation.tasks.item import ClipPlan, Item
from evaluation.tasks.lines import BenchmarkLine, find_video
from evaluation.tasks.multiple_choice import (
    choice,
    lettered,
    listed_options,
    names_the_letter,
    right_letter,
    with_letters,
    written_choice,
)
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task, is_the_letter
from utils.arguments import helped
from utils.errors import UserError

HUB = HubSet("stdKonjac/LiveSports-3K", "LiveSports_3K_QA")
REMEDY = (
    f"get the videos with: {HUB.command}, join videos.tar.part* and unpack them, or name the folder with --video_dir"
)


@dataclass
class LiveSports3KQAArguments:
    """The questions, their videos, and how they are asked."""

    benchmark_path: str = helped(HUB.id, "a file of questions, a folder copied from the hub, or the hub's id")
    video_dir: str | None = helped(
        None, f"folder of the videos; default: videos/ beside the questions, or {HUB.folder}"
    )
    protocol: Literal["livecc", "official"] = helped(
        "livecc", "livecc: logits of the option letters; official: a written letter"
    )


def load_task(arguments: LiveSports3KQAArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions. Raises UserError where there are none or a line lacks what is needed."""
    folders = video_folders(arguments.benchmark_path, HUB, arguments.video_dir)
    lines = read_rows(arguments.benchmark_path, HUB, limit)
    items = [_make_item(line, folders, arguments.protocol, templates) for line in lines]
    value = is_the_letter if arguments.protocol == "livecc" else names_the_letter
    return Task("livesports3kqa", arguments.protocol, items, value, templates.hashes)


def _make_item(line: BenchmarkLine, folders: list[Path], protocol: str, templates: PromptTemplates) -> Item:
    """One line of the benchmark."""
    options = lettered(listed_options(line), line)
    ask = {"livecc": choice, "official": written_choice}[protocol](templates, line["question"], options)
    video = line.get("video") or f"{line['video_id']}.mp4"
    path, problem = find_video(video, folders, REMEDY)
    return Item(
        id=f"{line['video_id']}_{line['question_id']}",
        video_id=str(line["video_id"]),
        ask=ask,
        truth=right_letter(options, line),
        clip=None if path is None else ClipPlan(str(path)),
        problem=problem,
        tags={"q_type": str(line["q_type"]), "ocr": reads_text(line)},
        shown={"question": line["question"], "options": with_letters(options), "video": video},
    )


def reads_text(line: BenchmarkLine) -> str:
    """`OCR` of a line, "1" where text must be read, else "0". Raises UserError where it is neither."""
    value = line["OCR"]
    if value not in (0, 1, "0", "1"):
        raise UserError(f"{line.where}: OCR is {value!r}; it must be 0 or 1")
    return str(int(value))
