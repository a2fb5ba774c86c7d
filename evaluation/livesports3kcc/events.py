"""The events of LiveSports-3K's commentary track: from the hub, a copy of it, or a file of rows."""

from dataclasses import dataclass
from typing import Any

from evaluation.tasks.hub_rows import HubSet, read_rows
from evaluation.tasks.lines import BenchmarkLine

HUB = HubSet("stdKonjac/LiveSports-3K", "LiveSports_3K_CC")
HUB_ID, COMMAND = HUB.id, HUB.command


@dataclass(frozen=True)
class SportsEvent:
    """A stretch of a sports video that a human comments on.

    video: its file's name. begin, end: seconds. preasr_text: what was said before; event_asr_text: the human's words.
    """

    video: str
    video_id: str
    event_id: str
    begin: float
    end: float
    event_title: str = ""
    preasr_text: str = ""
    event_asr_text: str = ""

    @property
    def id(self) -> str:
        """The name that result files give it."""
        return event_name(self.video_id, self.event_id)


def event_name(video_id: Any, event_id: Any) -> str:
    """An event's name in result files."""
    return f"{video_id}_{event_id}"


def load_events(path_or_hub_id: str = HUB_ID, limit: int | None = None) -> list[SportsEvent]:
    """The events of a file of rows, a folder copied from the hub, or a hub id; `limit`: the first ones.

    Raises UserError where there are none, with the command that gets them.
    """
    return [_event(line) for line in read_rows(path_or_hub_id, HUB, limit)]


def _event(line: BenchmarkLine) -> SportsEvent:
    video_id = str(line["video_id"])
    texts = {name: str(line.get(name) or "") for name in ("event_title", "preasr_text", "event_asr_text")}
    video = str(line.get("video") or f"{video_id}.mp4")
    return SportsEvent(video, video_id, str(line["event_id"]), line.seconds("begin"), line.seconds("end"), **texts)
