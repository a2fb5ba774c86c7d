"""LiveSports-3K-QA: questions with four options about events of sports videos, some of which need text to be read."""

import logging
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from evaluation.scoring.protocol import AUTHORS, OURS, SEED, Parts
from evaluation.tasks.hub_rows import HubSet, read_rows, video_folders
from evaluation.tasks.item import ClipPlan, Item
from evaluation.tasks.lines import BenchmarkLine, LineArguments, VideoFolders, make_items
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

log = logging.getLogger(__name__)

HUB = HubSet("stdKonjac/LiveSports-3K", "LiveSports_3K_QA")
REMEDY = (
    f"get the videos with: {HUB.command}, join videos.tar.part* and unpack them, or name the folder with --video_dir"
)
# How a field is called in the hub's rows and in copies of them; a row's own first.
NAMES = {
    "question": ("question", "problem"),
    "answer": ("answer", "solution"),
    "q_type": ("q_type", "q_type_livesports"),
    "OCR": ("OCR", "ocr_livesports", "ocr"),
    "video": ("video", "path", "video_path"),
    "begin": ("begin", "video_start", "start"),
    "end": ("end", "video_end"),
}
CUT_CLIP = re.compile(r"(.+)_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)")  # VIDEO_BEGIN_END: a clip that was cut out before
EVENT_ID = re.compile(r"(.+)_e(\w+?)_q(\w+)")  # VIDEO_eEVENT_qN


@dataclass
class LiveSports3KQAArguments(LineArguments):
    """The questions, their videos, and how they are asked."""

    benchmark_path: str = helped(HUB.id, "a file of questions, a folder copied from the hub, or the hub's id")
    video_dir: str | None = helped(
        None, f"folder of the videos; default: videos/ beside the questions, or {HUB.folder}"
    )
    protocol: Literal["livecc", "official"] = helped(
        "livecc", "livecc: logits of the option letters, as the authors do; official: a written letter"
    )


@dataclass(frozen=True)
class EventQuestion:
    """Where a row's question belongs. event, begin_s, end_s: None where the row does not tell. clip: the name of the
    video that was cut to the event, "" where there is none."""

    video_id: str
    question_id: str
    event: str | None
    begin_s: float | None
    end_s: float | None
    video: str
    clip: str = ""

    @property
    def id(self) -> str:
        """Name of the item; rows of one event may share it."""
        return f"{self.video_id}_{self.question_id}" if self.event is None else (
            f"{self.video_id}_e{self.event}_q{self.question_id}"
        )  # fmt: skip


def load_task(arguments: LiveSports3KQAArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions. Raises UserError where there are none or a line lacks what is needed."""
    skipped = arguments.skipped()
    videos = VideoFolders(video_folders(arguments.benchmark_path, HUB, arguments.video_dir), REMEDY, nested=True)
    lines = [with_fields(line) for line in read_rows(arguments.benchmark_path, HUB, limit, skipped)]
    seen: Counter[str] = Counter()

    def make(line: BenchmarkLine) -> list[Item]:
        item = _make_item(line, videos, arguments.protocol, templates)
        seen[item.id] += 1
        # Four of the hub's ids stand in two rows, with different questions.
        return [item if seen[item.id] == 1 else replace(item, id=f"{item.id}_row{line.number}")]

    items = make_items(lines, make, skipped)
    n_whole = sum(item.clip is not None and item.clip.end_s is None and not item.shown["is_cut"] for item in items)
    if n_whole:
        log.warning("%d questions name no window of their event (begin, end): their whole videos are shown", n_whole)
    frames = AUTHORS if not n_whole else OURS
    if arguments.protocol == "official":
        parts = Parts(templates.origin(), frames, OURS, AUTHORS)
        value = names_the_letter
    else:  # the benchmark's authors are the seed's
        prompt = AUTHORS if templates.origin() == SEED else templates.origin()
        parts, value = Parts(prompt, frames, AUTHORS, AUTHORS), is_the_letter
    return Task("livesports3kqa", arguments.protocol, items, value, templates.hashes, parts=parts, skipped=skipped)


def with_fields(line: BenchmarkLine) -> BenchmarkLine:
    """The line with the names that fields have in the hub's rows."""
    found = {
        name: next(line.fields[other] for other in others if line.fields.get(other) is not None)
        for name, others in NAMES.items()
        if any(line.fields.get(other) is not None for other in others)
    }
    return BenchmarkLine(line.path, line.number, {**line.fields, **found})


def place_of(line: BenchmarkLine) -> EventQuestion:
    """Video, event and window of a row: its own fields first, then its id, then the name of its clip.

    Raises UserError where neither tells the video.
    """
    named = EVENT_ID.fullmatch(str(line.get("problem_id") or line.get("question_id") or ""))
    video = str(line.get("video") or "")
    cut = CUT_CLIP.fullmatch(Path(video).stem) if video else None
    video_id = line.get("video_id") or (named and named[1]) or (cut and cut[1]) or (video and Path(video).stem)
    if not video_id:
        line["video_id"]  # names the fields that it has
    event = line.get("event_id") if line.get("event_id") is not None else named and named[2]
    question_id = named[3] if named else line["question_id"]
    begin, end = (line.seconds(name) if line.get(name) is not None else None for name in ("begin", "end"))
    if begin is None and end is None and cut:
        begin, end = float(cut[2]), float(cut[3])
    if begin is not None and end is not None and not begin < end:
        raise UserError(f"{line.where}: the window from {begin} s to {end} s is empty")
    whole = f"{video_id}.mp4" if cut or not video else video
    event = None if event is None else str(event)
    return EventQuestion(str(video_id), str(question_id), event, begin, end, whole, video if cut else "")


def _make_item(line: BenchmarkLine, videos: VideoFolders, protocol: str, templates: PromptTemplates) -> Item:
    """One line of the benchmark, about its event alone."""
    options = lettered(listed_options(line), line)
    place = place_of(line)
    ask = (written_choice if protocol == "official" else choice)(templates, line["question"], options)
    clip, problem, is_cut = find_clip(place, videos)
    return Item(
        id=place.id,
        video_id=place.video_id,
        ask=ask,
        truth=right_letter(options, line),
        clip=clip,
        problem=problem,
        tags={"q_type": str(line["q_type"]), "ocr": reads_text(line)},
        shown={
            "question": line["question"], "options": with_letters(options), "video": place.video,
            "event_id": place.event, "begin": place.begin_s, "end": place.end_s, "is_cut": is_cut,
        },
    )  # fmt: skip


def find_clip(place: EventQuestion, videos: VideoFolders) -> tuple[ClipPlan | None, str, bool]:
    """The event in its whole video, else the clip that was cut out of it, and whether it is the latter."""
    path, problem = videos.find(place.video)
    if path is not None:
        return ClipPlan(str(path), place.begin_s, place.end_s), "", False
    cuts = [place.clip] if place.clip else []
    if place.begin_s is not None and place.end_s is not None:
        cuts.append(f"{place.video_id}_{place.begin_s:g}_{place.end_s:g}.mp4")
    path, _ = videos.find(*cuts) if cuts else (None, "")
    return (None, problem, False) if path is None else (ClipPlan(str(path)), "", True)


def reads_text(line: BenchmarkLine) -> str:
    """`OCR` of a line, "1" where text must be read, else "0". Raises UserError where it is neither."""
    value: Any = line["OCR"]
    if value not in (0, 1, "0", "1"):
        raise UserError(f"{line.where}: OCR is {value!r}; it must be 0 or 1")
    return str(int(value))
