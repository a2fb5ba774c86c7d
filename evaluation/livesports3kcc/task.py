"""LiveSports-3K-CC: 1,702 events of sports videos, to be commented as they happen or to be described afterwards."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.video.frame_plan import FPS, VideoLimits
from evaluation.livesports3kcc.events import COMMAND, HUB_ID, SportsEvent, load_events
from evaluation.tasks.item import Ask, ClipPlan, Commentary, Item, Written
from evaluation.tasks.lines import find_video
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task
from utils.arguments import helped
from utils.errors import UserError

log = logging.getLogger(__name__)

DATA = Path("datasets/LiveSports-3K")
VIDEO_COMMAND = f"{COMMAND} && cat {DATA}/videos.tar.part.* | tar -x -C {DATA}"


@dataclass
class EventArguments:
    """The events, and their videos."""

    annotations: str = helped(HUB_ID, "events: a JSONL, JSON or parquet file, a copy of the data set, or a hub id")
    video_dir: str | None = helped(None, f"folder of the videos; default: beside the annotations' file, then {DATA}")

    @property
    def video_folders(self) -> list[Path]:
        """Folders in which videos are looked for."""
        if self.video_dir:
            return [Path(self.video_dir)]
        given = Path(self.annotations)
        beside = given.parent if given.is_file() else given
        return [folder for base in (beside, DATA) for folder in (base, base / "videos")]


@dataclass
class CommentaryArguments(EventArguments):
    """What a streaming model is asked."""

    not_instruct_model: bool = helped(False, "for base models: only earlier speech, or the title where there is none")
    max_new_tokens: int = helped(32, "most tokens a step", ge=1)
    repetition_penalty: float = helped(1.15, "divides the scores of tokens that are already in the context", gt=0)

    def __post_init__(self) -> None:
        check_tokens(self.max_new_tokens)
        if not self.repetition_penalty > 0:
            raise UserError(f"--repetition_penalty {self.repetition_penalty}: must be above 0; 1 changes nothing")


@dataclass
class EventCaptionArguments(EventArguments):
    """What an offline model is asked."""

    max_new_tokens: int = helped(512, "most tokens of a caption", ge=1)
    protocol: Literal["official", "livecc"] = helped(
        "official", "official: frames of the event; livecc: frames of the whole video, as in the published code"
    )

    def __post_init__(self) -> None:
        check_tokens(self.max_new_tokens)


def load_commentaries(
    arguments: CommentaryArguments,
    templates: PromptTemplates,
    limit: int | None = None,
    compat: Literal["livecc"] | None = None,
) -> Task:
    """The events, to be commented second by second.

    compat="livecc": the published frames, spread evenly as for a question, by their end times. Raises UserError where
    events or all videos are missing.
    """
    events = load_events(arguments.annotations, limit)
    most = VideoLimits.from_environment().max_frames
    n_long = sum((event.end - event.begin) * FPS >= most for event in events)
    if n_long and not compat:
        log.warning(
            "%d events are longer than the %d frames of a clip and are commented up to there; FPS_MAX_FRAMES in the "
            "environment sets how many a clip may have",
            n_long,
            most,
        )
    context = base_context if arguments.not_instruct_model else instruct_context
    frames = {"rule": "question", "frame_times": "end32"} if compat else {"rule": "stream"}
    items = [
        _make_item(
            event,
            Commentary(context(event, templates), arguments.max_new_tokens, arguments.repetition_penalty),
            arguments,
            start_s=event.begin,
            end_s=event.end,
            **frames,
        )
        for event in events
    ]
    return Task("livesports3kcc", "livecc", with_videos(items, arguments), None, templates.hashes)


def load_captions(arguments: EventCaptionArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The events, to be described in one piece. Raises UserError where events or all videos are missing."""
    items = []
    for event in load_events(arguments.annotations, limit):
        window = {"start_s": event.begin, "end_s": event.end} if arguments.protocol == "official" else {}
        ask = Written(instruct_context(event, templates), arguments.max_new_tokens)
        items.append(_make_item(event, ask, arguments, **window))
    return Task("livesports3kcc", arguments.protocol, with_videos(items, arguments), None, templates.hashes)


def instruct_context(event: SportsEvent, templates: PromptTemplates) -> str:
    """Context for an instructed model: the request, then title and earlier speech where there are any."""
    parts = [templates.fill("commentary")]
    if event.event_title:
        parts.append(templates.fill("commentary_title", title=event.event_title))
    if event.preasr_text:
        parts.append(templates.fill("commentary_previous", previous=event.preasr_text))
    return "\n".join(parts)


def base_context(event: SportsEvent, _: PromptTemplates) -> str:
    """Context for a base model, as in its training: earlier speech, or the title where there is none."""
    return (event.preasr_text or event.event_title).strip()


def _make_item(event: SportsEvent, ask: Ask, arguments: EventArguments, **plan) -> Item:
    """An event as an item; plan: of its frames."""
    path, problem = find_event_video(event, arguments.video_folders)
    return Item(
        id=event.id,
        video_id=event.video_id,
        ask=ask,
        truth=event.event_asr_text,
        clip=None if path is None else ClipPlan(str(path), **plan),
        problem=problem,
        shown={
            "title": event.event_title,
            "reference": event.event_asr_text,
            "event_id": event.event_id,
            "begin": event.begin,
            "end": event.end,
        },
    )


def find_event_video(event: SportsEvent, folders: list[Path]) -> tuple[Path | None, str]:
    """The event's video under its own name, else that of its id; None and what is wrong where there is none."""
    if Path(event.video).is_absolute() and Path(event.video).is_file():
        return Path(event.video), ""
    problem = ""
    for name in dict.fromkeys([event.video, Path(event.video).name, f"{event.video_id}.mp4"]):
        path, why = find_video(name, folders)
        if path is not None:
            return path, ""
        problem = problem or why
    return None, problem


def with_videos(items: list[Item], arguments: EventArguments) -> list[Item]:
    """Check the items and return them. Raises UserError where none of them has its video, or a video_id has two."""
    found: dict[str, str] = {}
    for item in items:
        if item.clip and found.setdefault(item.video_id, item.clip.video) != item.clip.video:
            raise UserError(
                f"{arguments.annotations}: events of video_id {item.video_id!r} name two videos, "
                f"{found[item.video_id]} and {item.clip.video}; give each video an id of its own"
            )
    if all(item.clip is None for item in items):
        raise UserError(
            f"none of the {len(items)} events of {arguments.annotations} has its video in "
            f"{', '.join(map(str, arguments.video_folders))}; get the videos (22 GB) with: {VIDEO_COMMAND}, or name "
            "their folder with --video_dir"
        )
    return items


def check_tokens(n_tokens: int) -> None:
    """Raise UserError for a limit that allows nothing."""
    if n_tokens < 1:
        raise UserError(f"--max_new_tokens {n_tokens}: at least 1 token must be allowed")
