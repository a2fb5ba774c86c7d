"""What a benchmark asks: an item is one question about one clip, with its truth and the groups it is counted in."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class ClipPlan:
    """Which frames of which video are shown.

    video: a file, or a folder of frames where `folder_fps` says how many make a second. start_s, end_s: the window,
    None leaves a side open. rule (data/video/frame_plan.py): "question" spreads frames evenly, "stream" takes 2 a
    second.
    max_frames: a limit below the checkpoint's own. min_frames: at least so many, where the window holds them.
    max_pixels: of a frame, in place of what the checkpoint's limit of a clip leaves for each.
    """

    video: str
    start_s: float | None = None
    end_s: float | None = None
    rule: Literal["question", "stream"] = "question"
    frame_times: Literal["grid", "end32"] = "grid"
    max_frames: int | None = None
    folder_fps: float | None = None
    min_frames: int | None = None
    max_pixels: int | None = None


@dataclass(frozen=True)
class Choice:
    """Pick one of some answers by the logits of their tokens after `prefix`, with which the assistant's turn begins.

    text: stands after the video. options: the answers as they are reported; spaced: their tokens carry a leading space.
    Where an option is several tokens, the options are compared by their log-likelihoods.
    """

    text: str
    prefix: str
    options: tuple[str, ...]
    spaced: bool = True


@dataclass(frozen=True)
class Written:
    """Write an answer, greedily, to the end of the turn or the limit. prefix: how the assistant's turn begins."""

    text: str
    max_new_tokens: int
    prefix: str = ""


@dataclass(frozen=True)
class Commentary:
    """Comment on the clip second by second, through the streaming loop. is_silent: watch, and say nothing."""

    query: str
    max_new_tokens: int = 32  # a step
    repetition_penalty: float = 1.15
    is_silent: bool = False


@dataclass(frozen=True)
class MidStream:
    """Comment on the clip, then answer a question as a viewer would ask it at the clip's last second."""

    commentary: Commentary
    text: str
    max_new_tokens: int


@dataclass(frozen=True)
class Polled:
    """Say whether the moment has come, at each of some times, about the clip up to it; at the first yes, answer `then`.

    Its answer's steps are (time, time, "yes" or "no"), its response is what was said at the moment, "" where none came.
    """

    text: str
    times_s: tuple[float, ...]
    then: str
    max_new_tokens: int


Ask = Choice | Written | Commentary | MidStream | Polled


@dataclass(frozen=True)
class Item:
    """One question. id: unique within its benchmark and setting.

    clip: what is shown; None where `problem` says why nothing can be. video_id: what scores are clustered by. setting:
    which of the benchmark's settings this is ("with_subtitles"). template: names and hashes of the templates that made
    the text. tags: the groups that it is counted in (category -> name). shown: what a page shows of it beside the
    answer (question, options, reference).
    """

    id: str
    video_id: str
    ask: Ask
    truth: Any
    clip: ClipPlan | None
    setting: str = ""
    problem: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Unique within the benchmark."""
        return f"{self.id} [{self.setting}]" if self.setting else self.id

    @property
    def prompt(self) -> str:
        """All text that the model is given for this item."""
        match self.ask:
            case Commentary(query=query):
                return query
            case MidStream(commentary=commentary, text=text):
                return f"{commentary.query}\n{text}"
            case _:
                return self.ask.text


@dataclass(frozen=True)
class Answer:
    """What a model replied. logits: per option; steps: (start_s, end_s, text) of a commentary."""

    response: str
    logits: dict[str, float] | None = None
    steps: list[tuple[float, float, str]] | None = None
    seconds: float = 0.0


def group_by_clip(items: Sequence[Item]) -> dict[ClipPlan, list[Item]]:
    """Items by what is shown."""
    groups: dict[ClipPlan, list[Item]] = {}
    for item in items:
        groups.setdefault(item.clip, []).append(item)
    return groups
