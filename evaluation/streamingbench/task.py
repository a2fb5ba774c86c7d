"""StreamingBench, real-time visual understanding: questions about a video at moments while it runs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evaluation.tasks.hub_rows import HubSet, read_rows, video_folders
from evaluation.tasks.item import ClipPlan, Item
from evaluation.tasks.lines import BenchmarkLine, find_video
from evaluation.tasks.multiple_choice import LETTERED, choice, lettered, listed_options, right_letter, with_letters
from evaluation.tasks.multiple_choice import written_choice as ask_for_letter
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task, is_the_letter
from utils.arguments import helped
from utils.errors import UserError

HUB = HubSet("mjuicem/StreamingBench", "Real_Time_Visual_Understanding", "Real_Time_Visual_Understanding")
CONTEXT_S = 60.0  # before the question, in the benchmark's main results
REMEDY = (
    f"get the videos with: {HUB.command}, and unpack its 'Real-Time Visual Understanding_*.zip', or name their folder "
    "with --video_dir"
)
SAMPLE = re.compile(r"_sample_(\d+)_")  # in a question_id: Real-Time Visual Understanding_sample_1_1


@dataclass
class StreamingBenchArguments:
    """The questions, their videos, and how they are asked."""

    benchmark_path: str = field(
        metadata={"help": "Real_Time_Visual_Understanding.csv, questions_real.json, lines of either, or the hub's id"}
    )
    video_dir: str | None = helped(None, "folder of the videos; default: videos/ or real/ beside the questions")
    protocol: Literal["livecc", "official"] = helped(
        "livecc", "livecc: all video up to the question, logits; official: its last 60 s, a written letter"
    )


def load_task(arguments: StreamingBenchArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions. Raises UserError where there are none or a line lacks what is needed."""
    folders = video_folders(arguments.benchmark_path, HUB, arguments.video_dir)
    if not arguments.video_dir:
        folders = [folders[0], folders[1] / "real", folders[1]]
    lines = [question for row in read_rows(arguments.benchmark_path, HUB) for question in questions_of(row)][:limit]
    items = [_make_item(line, folders, arguments.protocol, templates) for line in lines]
    value = is_the_letter if arguments.protocol == "livecc" else begins_with_letter
    return Task("streamingbench", arguments.protocol, items, value, templates.hashes)


def questions_of(row: BenchmarkLine) -> Iterator[BenchmarkLine]:
    """The questions of a row: a table has one in each, the JSON file a list of them under a video's stretch."""
    if "questions" not in row.fields:
        yield row
        return
    for number, question in enumerate(row["questions"], start=1):
        video = row["video_path"]
        named = {"video": video, "question_id": f"{Path(video).stem}_{row.number}_{number}"}
        yield BenchmarkLine(row.path, row.number, {**named, **question})


def _make_item(line: BenchmarkLine, folders: list[Path], protocol: str, templates: PromptTemplates) -> Item:
    """One question, about what is seen up to its time."""
    options = lettered(whole_options(listed_options(line)), line)
    time_s = seconds_of(line)
    names = video_names(line)
    found = [find_video(name, folders, REMEDY) for name in names]
    path, problem = next((pair for pair in found if pair[0]), found[0])
    if protocol == "livecc":
        ask, start_s = choice(templates, line["question"], options), None
    else:
        ask, start_s = ask_for_letter(templates, line["question"], options), max(time_s - CONTEXT_S, 0.0) or None
    return Item(
        id=str(line["question_id"]),
        video_id=names[0],
        ask=ask,
        truth=right_letter(options, line),
        clip=None if path is None else ClipPlan(str(path), start_s, time_s),
        problem=problem,
        tags={"task_type": line["task_type"]},
        shown={
            "question": line["question"],
            "options": with_letters(options),
            "video": names[0],
            "time_s": time_s,
        },
    )


def video_names(line: BenchmarkLine) -> list[str]:
    """How a question's video may be called: as the line says, or by the number in the question's id, as unpacked."""
    if video := line.get("video") or line.get("video_path"):
        return list(dict.fromkeys([Path(video).as_posix(), Path(video).name]))
    found = SAMPLE.search(line["question_id"])
    if not found:
        raise UserError(f"{line.where}: neither a field 'video' nor a question_id that holds _sample_NUMBER_")
    sample = f"sample_{found[1]}"
    return [f"{sample}/video.mp4", f"{sample}.mp4", f"{sample}_real.mp4"]


def seconds_of(line: BenchmarkLine) -> float:
    """`time_stamp` as seconds: 00:03:10, 03:10 or a number. Raises UserError where it is none."""
    parts = str(line["time_stamp"]).split(":")
    try:
        seconds = 0.0
        for part in parts:
            seconds = seconds * 60 + float(part)
    except ValueError:
        raise UserError(
            f"{line.where}: time_stamp is {line['time_stamp']!r}; it must be like 00:03:10, or a number of seconds"
        ) from None
    return seconds


def whole_options(pieces: list[str]) -> list[str]:
    """Options of which a list separator cut some: a piece without a letter continues the lettered one before it."""
    if not pieces or not LETTERED.fullmatch(pieces[0].strip()):
        return pieces
    whole: list[str] = []
    for piece in map(str.strip, pieces):
        if LETTERED.fullmatch(piece):
            whole.append(piece)
        elif piece:
            whole[-1] += f", {piece}"
    return whole


def begins_with_letter(item: Item, response: str) -> float:
    """1 where a written answer begins with the right letter, as the benchmark's own count takes it."""
    return float(response.strip()[:1] == item.truth)
