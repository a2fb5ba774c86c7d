"""VideoMME: 900 videos, three questions each, with and without subtitles."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pysubs2

from evaluation.tasks.item import ClipPlan, Item, Written
from evaluation.tasks.lines import BenchmarkLine, find_video, read_benchmark
from evaluation.tasks.multiple_choice import choice, lettered, names_the_letter
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task, is_the_letter
from evaluation.videomme.scores import export
from utils.arguments import helped
from utils.errors import UserError

PLAIN, SUBTITLED = "no_subtitles", "with_subtitles"
TAGS = ("duration", "domain", "sub_category", "task_type")


@dataclass
class VideoMMEArguments:
    """The benchmark file, its videos, and what is asked."""

    benchmark_path: str = field(metadata={"help": "videomme.jsonl: one question a line", "path": "file"})
    video_dir: str | None = helped(
        None, "folder of {videoID}.mp4; default: videos/ beside the benchmark file", path="folder"
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


def load_task(arguments: VideoMMEArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions of a benchmark file. Raises UserError where it is missing or a line lacks what is needed."""
    lines = list(read_benchmark(arguments.benchmark_path, limit))
    items = [_make_item(line, setting, arguments, templates) for setting in arguments.settings for line in lines]
    value = is_the_letter if arguments.protocol == "livecc" else names_the_letter
    return Task("videomme", arguments.protocol, items, value, templates.hashes, export)


def _make_item(line: BenchmarkLine, setting: str, arguments: VideoMMEArguments, templates: PromptTemplates) -> Item:
    """One line of the benchmark under one setting."""
    options = lettered(line["options"], line)
    before = ""
    if setting == SUBTITLED:
        if "subtitles" not in line.fields:
            raise UserError(
                f"{line.where}: no field 'subtitles'; add them with python evaluation/videomme/add_subtitle.py "
                f"--benchmark_path {line.path} --subtitle_dir FOLDER --output OUT.jsonl"
            )
        if line["subtitles"]:  # a silent video has none
            before = templates.fill("subtitles", subtitles=line["subtitles"]) + "\n"
    ask = choice(templates, line["question"], options, before)
    if arguments.protocol == "official":
        listed = "\n".join(f"{letter}. {text}" for letter, text in options.items())
        prompt = templates.fill("videomme_official", question=line["question"], options=listed)
        ask = Written(before + prompt, max_new_tokens=16)
    path, problem = _find_video(line, arguments.video_dir)
    return Item(
        id=line["question_id"],
        video_id=line["video_id"],
        ask=ask,
        truth=line["answer"],
        clip=None if path is None else ClipPlan(str(path)),
        setting=setting,
        problem=problem,
        tags={name: line[name] for name in TAGS},
        shown={"question": line["question"], "options": line["options"], "video": line.get("videoID", "")},
    )


def _find_video(line: BenchmarkLine, video_dir: str | None) -> tuple[Path | None, str]:
    """The line's `video` if it has one, else {videoID}.mp4 in the folder of videos."""
    beside = line.path.parent
    folders = [Path(video_dir)] if video_dir else [beside / "videos", beside]
    if line.get("video"):
        named = Path(line["video"])
        return (named, "") if named.is_absolute() and named.exists() else find_video(line["video"], folders)
    return find_video(f"{line['videoID']}.mp4", folders[:1])


def read_subtitles(path: Path) -> str:
    """The words of a subtitle file (.srt), in one line. Raises UserError where it cannot be read."""
    try:
        events = pysubs2.load(str(path), encoding="utf-8", errors="replace")
    except (OSError, pysubs2.exceptions.Pysubs2Error) as error:
        raise UserError(f"{path}: cannot be read as subtitles ({error})") from error
    return " ".join(" ".join(event.plaintext.split()) for event in events if event.plaintext.strip())
