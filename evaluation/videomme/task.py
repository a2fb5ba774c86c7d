"""VideoMME: 900 videos, three questions each, with and without subtitles."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pysubs2

from evaluation.scoring.protocol import AUTHORS, SEED, Parts
from evaluation.tasks.hub_rows import HubSet, read_rows
from evaluation.tasks.item import ClipPlan, Item, Written
from evaluation.tasks.lines import BenchmarkLine, LineArguments, VideoFolders, make_items
from evaluation.tasks.multiple_choice import choice, lettered, listed_options, with_letters
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.reading import videomme_letter
from evaluation.tasks.task import Task, is_the_letter
from evaluation.videomme.scores import export
from utils.arguments import helped
from utils.errors import UserError

HUB = HubSet("lmms-lab/Video-MME", "videomme")
PLAIN, SUBTITLED = "no_subtitles", "with_subtitles"
TAGS = ("duration", "domain", "sub_category", "task_type")
FOLDERS = ("videos", "data", "video", "")  # of the videos, beside the questions; the hub's archives unpack into data
OFFICIAL_TOKENS = 16


@dataclass
class VideoMMEArguments(LineArguments):
    """The benchmark file, its videos, and what is asked."""

    benchmark_path: str = field(
        metadata={"help": "videomme.jsonl, the hub's table (.parquet), or a folder or hub id of it"}
    )
    video_dir: str | None = helped(
        None, "folder of {videoID}.mp4, or folders in it; default: beside the questions", path="folder"
    )
    with_subtitles: bool = helped(False, "show the subtitles as well")
    both_settings: bool = helped(False, "ask without and with subtitles in one run, which share each video")
    protocol: Literal["livecc", "official"] = helped(
        "livecc", "livecc: logits of the option letters; official: a written letter"
    )

    @property
    def settings(self) -> tuple[str, ...]:
        """The settings asked for."""
        return (PLAIN, SUBTITLED) if self.both_settings else (SUBTITLED if self.with_subtitles else PLAIN,)

    def videos(self) -> VideoFolders:
        """Where the videos are looked for."""
        if self.video_dir:
            return VideoFolders([Path(self.video_dir)], nested=True)
        path = Path(self.benchmark_path)
        beside = path.parent if path.is_file() else path if path.is_dir() else HUB.folder
        above = beside.parent if path.suffix == ".parquet" else beside  # the hub's table lies in a folder of its own
        folders = [base / name for base in dict.fromkeys([beside, above]) for name in FOLDERS]
        return VideoFolders([folder for folder in folders if folder.is_dir()] or [beside / "videos"], nested=True)


def load_task(arguments: VideoMMEArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions of a benchmark file. Raises UserError where it is missing or a line lacks what is needed."""
    skipped, videos = arguments.skipped(), arguments.videos()
    lines = read_rows(arguments.benchmark_path, HUB, limit, skipped)

    def make(line: BenchmarkLine) -> Iterator[Item]:
        return (_make_item(line, setting, arguments, templates, videos) for setting in arguments.settings)

    items = sorted(make_items(lines, make, skipped), key=lambda item: arguments.settings.index(item.setting))
    if arguments.protocol == "livecc":
        parts = Parts(templates.origin(), SEED, SEED, SEED)
        return Task("videomme", "livecc", items, is_the_letter, templates.hashes, export, parts, skipped=skipped)
    # The authors fix no frames: as many as a model takes.
    parts = Parts(templates.origin(), AUTHORS, AUTHORS, AUTHORS)
    task = Task("videomme", "official", items, official_value, templates.hashes, export, parts, skipped=skipped)
    return replace(task, is_counted=lambda item, response: bool(videomme_letter(response)))


def official_value(item: Item, response: str) -> float:
    """1 where the letter that the authors find in a written answer is the right one."""
    return float(videomme_letter(response) == item.truth)


def _make_item(
    line: BenchmarkLine, setting: str, arguments: VideoMMEArguments, templates: PromptTemplates, videos: VideoFolders
) -> Item:
    """One line of the benchmark under one setting."""
    listed = listed_options(line)
    options = lettered(listed, line)
    subtitles = _subtitles(line) if setting == SUBTITLED else ""
    before = ""  # a silent video has no subtitles
    if arguments.protocol == "official":
        if subtitles:
            before = templates.fill("videomme_official_subtitles", subtitles=subtitles)
        listed_lines = "\n".join(with_letters(options))
        prompt = templates.fill("videomme_official", question=line["question"], options=listed_lines)
        ask = Written(before + prompt, OFFICIAL_TOKENS)
    else:
        if subtitles:
            before = templates.fill("subtitles", subtitles=subtitles) + "\n"
        ask = choice(templates, line["question"], options, before)
    path, problem = _find_video(line, videos)
    return Item(
        id=str(line["question_id"]),
        video_id=str(line["video_id"]),
        ask=ask,
        truth=line["answer"],
        clip=None if path is None else ClipPlan(str(path)),
        setting=setting,
        problem=problem,
        tags={name: str(line[name]) for name in TAGS},
        shown={"question": line["question"], "options": listed, "video": line.get("videoID", "")},
    )


def _subtitles(line: BenchmarkLine) -> str:
    """The subtitles of a line. Raises UserError where it has no such field."""
    if "subtitles" not in line.fields:
        raise UserError(
            f"{line.where}: no field 'subtitles'; add them with python evaluation/videomme/add_subtitle.py "
            f"--benchmark_path {line.path} --subtitle_dir FOLDER --output OUT.jsonl"
        )
    return line["subtitles"]


def _find_video(line: BenchmarkLine, videos: VideoFolders) -> tuple[Path | None, str]:
    """The line's `video` if it has one, else {videoID}.mp4 in the folder of videos."""
    named = line.get("video")
    if named and Path(named).is_absolute() and Path(named).exists():
        return Path(named), ""
    return videos.find(named or f"{line['videoID']}.mp4")


def read_subtitles(path: Path) -> str:
    """The words of a subtitle file (.srt), in one line. Raises UserError where it cannot be read."""
    try:
        events = pysubs2.load(str(path), encoding="utf-8", errors="replace")
    except (OSError, pysubs2.exceptions.Pysubs2Error) as error:
        raise UserError(f"{path}: cannot be read as subtitles ({error})") from error
    return " ".join(" ".join(event.plaintext.split()) for event in events if event.plaintext.strip())
