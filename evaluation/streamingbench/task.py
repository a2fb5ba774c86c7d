"""StreamingBench: questions about a video at moments while it runs, of all of its files: real-time, omni-source and
contextual questions with options, sequences of questions, and outputs that are due when something happens."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from evaluation.scoring.protocol import AUTHORS, OURS, SEED, Parts
from evaluation.streamingbench.scores import NAMED_TWICE, PROACTIVE, SEQUENTIAL
from evaluation.tasks.hub_rows import HubSet, read_rows, video_folders
from evaluation.tasks.item import Ask, ClipPlan, Commentary, Item, Polled, Written
from evaluation.tasks.lines import BenchmarkLine, LineArguments, VideoFolders, bad_lines_kept, make_items
from evaluation.tasks.multiple_choice import (
    LETTERED,
    choice,
    lettered,
    listed_options,
    right_letter,
    with_letters,
)
from evaluation.tasks.online import OnlineArguments, mid_stream, with_recent_frames
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task, is_the_letter
from utils.arguments import helped
from utils.errors import UserError

HUB = HubSet("mjuicem/StreamingBench", "Real_Time_Visual_Understanding", "Real_Time_Visual_Understanding")
CONTEXT_S = 60.0  # before the question, in the benchmark's main results
OFFICIAL_TOKENS = 16
PROACTIVE_TOKENS = 64
POLLED_AFTER_S = 4  # the last time at which an output is asked for, after the true one
NEAR_S = 2  # of the true time, for an output to be in time
REMEDY = (
    f"get the videos with: {HUB.command}, and unpack its 'Real-Time Visual Understanding_*.zip', or name their folder "
    "with --video_dir"
)
SAMPLE = re.compile(r"_sample_(\d+)_")  # in a question_id: Real-Time Visual Understanding_sample_1_1
KINDS = ("real", "omni", "sqa", "proactive")  # of the JSON files, at the ends of their videos' names


@dataclass
class StreamingBenchArguments(LineArguments, OnlineArguments):
    """The questions, their videos, and how they are asked."""

    benchmark_path: str = field(
        metadata={"help": "a table of the hub, a questions_*.json of the repository, lines of either, or the hub's id"}
    )
    video_dir: str | None = helped(None, "folder of the videos; default: videos/ or real/ beside the questions")
    protocol: Literal["livecc", "official"] = helped(
        "livecc", "livecc: all video up to the question, logits; official: its last 60 s, a written letter"
    )


def load_task(arguments: StreamingBenchArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions. Raises UserError where there are none or a line lacks what is needed."""
    folders = video_folders(arguments.benchmark_path, HUB, arguments.video_dir)
    if not arguments.video_dir:
        folders = [folders[0], *(folders[1] / kind for kind in KINDS), folders[1]]
    skipped, videos = arguments.skipped(), VideoFolders(folders, REMEDY)
    lines = []
    for row in read_rows(arguments.benchmark_path, HUB, skipped=skipped):
        with bad_lines_kept(skipped):
            lines += questions_of(row)
    asker = Asker(arguments.way, videos, templates)
    items = make_items(lines[:limit], lambda line: [asker.item(line)], skipped)
    value = is_the_letter if arguments.way == "livecc" else begins_with_letter
    parts = {
        "livecc": Parts(templates.origin(), SEED, SEED, AUTHORS),
        "official": Parts(templates.origin(), AUTHORS, AUTHORS, AUTHORS),
        "online": Parts(templates.origin(), OURS, AUTHORS, AUTHORS),
    }[arguments.way]
    task = Task("streamingbench", arguments.way, items, value, templates.hashes, parts=parts, skipped=skipped)
    task = replace(task, value_of_steps=in_time)
    if arguments.way != "livecc":
        task = replace(task, is_counted=lambda item, response: bool(response) or isinstance(item.ask, Commentary))
    return with_recent_frames(task, arguments.recent_frames)


def questions_of(row: BenchmarkLine) -> Iterator[BenchmarkLine]:
    """The questions of a row: a table has one in each, a JSON file a list of them under a video's stretch."""
    if "questions" not in row.fields:
        yield row
        return
    for number, question in enumerate(row["questions"], start=1):
        video = row["video_path"]
        named = {"video": video, "question_id": f"{Path(video).stem}_{row.number}_{number}"}
        yield BenchmarkLine(row.path, row.number, {**named, **question})


class Asker:
    """Makes items of questions, in the order of the file: a sequence of questions remembers those before.

    way: "livecc", "official" or "online".
    """

    def __init__(self, way: str, videos: VideoFolders, templates: PromptTemplates):
        self.way, self.videos, self.templates = way, videos, templates
        self.earlier: dict[str, list[str]] = defaultdict(list)  # video -> what was asked, with the true answers
        self.ids: Counter[str] = Counter()

    def item(self, line: BenchmarkLine) -> Item:
        """One question, about what is seen up to its time."""
        task = NAMED_TWICE.get(line["task_type"], line["task_type"])
        names = video_names(line)
        path, problem = self.videos.find(*names)
        make = self._output if task == PROACTIVE else self._choice
        ask, window, truth, shown = make(line, task, names[0])
        question_id = str(line["question_id"])
        self.ids[question_id] += 1
        if self.ids[question_id] > 1:
            question_id = f"{question_id}_{self.ids[question_id]}"  # sequences number their rows anew for each video
        return Item(
            id=question_id,
            video_id=names[0],
            ask=ask,
            truth=truth,
            clip=None if path is None else ClipPlan(str(path), **window),
            problem=problem,
            tags={"task_type": task},
            shown={"question": line["question"], **shown, "video": names[0], "time_s": seconds_of(line)},
        )

    def _choice(self, line: BenchmarkLine, task: str, video: str) -> tuple[Ask, dict, str, dict]:
        """A question with options."""
        options = lettered(whole_options(listed_options(line)), line)
        listed, truth, time_s = with_letters(options), right_letter(options, line), seconds_of(line)
        context = self._context(video) if task == SEQUENTIAL else ""
        self._remember(line, task, video, listed, truth)
        shown = {"options": listed}
        window = {"end_s": time_s}
        if self.way == "livecc":
            before = f"{context}\n" if context else ""
            return choice(self.templates, line["question"], options, before), window, truth, shown
        named = {"context": context} if task == SEQUENTIAL else {}
        template = "streamingbench_sqa" if task == SEQUENTIAL else "streamingbench"
        text = self.templates.fill(template, question=line["question"], options="\n".join(listed), **named)
        if self.way == "online":
            return mid_stream(text, OFFICIAL_TOKENS), {**window, "rule": "stream"}, truth, shown
        window["start_s"] = max(time_s - CONTEXT_S, 0.0) or None
        return Written(text, OFFICIAL_TOKENS), window, truth, shown

    def _output(self, line: BenchmarkLine, task: str, video: str) -> tuple[Ask, dict, str, dict]:
        """An output that is due when something happens: asked for every second, or awaited from a stream."""
        start_s, due_s = seconds_of(line), seconds_of(line, "ground_truth_time_stamp")
        output, question = str(line["ground_truth_output"]), line["question"]
        last_s = max(due_s, start_s) + POLLED_AFTER_S
        shown = {"due_s": due_s}
        if self.way == "online":
            window = {"start_s": start_s, "end_s": last_s, "rule": "stream"}
            return Commentary(question, PROACTIVE_TOKENS, 1.0), window, output, shown
        text = self.templates.fill("streamingbench_proactive", question=question, output=output)
        times = tuple(start_s + second for second in range(1, int(last_s - start_s) + 1))
        start = None if self.way == "livecc" else start_s
        return Polled(text, times, question, PROACTIVE_TOKENS), {"start_s": start, "end_s": last_s}, output, shown

    def _context(self, video: str) -> str:
        earlier = self.earlier[video]
        return self.templates.fill("streamingbench_earlier", earlier="".join(earlier).strip()) if earlier else ""

    def _remember(self, line: BenchmarkLine, task: str, video: str, listed: list[str], truth: str) -> None:
        if task == SEQUENTIAL:
            said = self.templates.fill(
                "streamingbench_earlier_one",
                time=str(line["time_stamp"]), question=line["question"], options=", ".join(listed), answer=truth,
            )  # fmt: skip
            self.earlier[video].append(f"{said.strip()} ")


def in_time(item: Item, row: dict) -> float | None:
    """1 where an output came within 2 s of the time at which it is due; None for questions with options."""
    if not isinstance(item.ask, Polled | Commentary):
        return None
    said_s = next((end_s for _, end_s, text in row["steps"] or () if text.strip(" .") not in ("", "no")), None)
    return float(said_s is not None and abs(said_s - item.shown["due_s"]) <= NEAR_S)


def video_names(line: BenchmarkLine) -> list[str]:
    """How a question's video may be called: as the line says, or by the number in the question's id, as unpacked."""
    if video := line.get("video") or line.get("video_path"):
        return list(dict.fromkeys([Path(video).as_posix(), Path(video).name]))
    found = SAMPLE.search(line["question_id"])
    if not found:
        raise UserError(f"{line.where}: neither a field 'video' nor a question_id that holds _sample_NUMBER_")
    sample = f"sample_{found[1]}"
    return [f"{sample}/video.mp4", f"{sample}.mp4", *(f"{sample}_{kind}.mp4" for kind in KINDS)]


def seconds_of(line: BenchmarkLine, name: str = "time_stamp") -> float:
    """A time stamp as seconds: 00:03:10, 03:10 or a number. Raises UserError where it is none."""
    parts = str(line[name]).split(":")
    try:
        seconds = 0.0
        for part in parts:
            seconds = seconds * 60 + float(part)
    except ValueError:
        raise UserError(
            f"{line.where}: {name} is {line[name]!r}; it must be like 00:03:10, or a number of seconds"
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
