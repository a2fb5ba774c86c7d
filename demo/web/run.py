"""One commentary from one second of a video on: a session of the server, whose clock is the viewer's player."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from PIL import Image

from data.sources.source import Source
from data.video.frame_plan import VideoLimits
from data.video.live import TimedFrame
from demo.live.bucket import TokenBucket
from demo.live.events import EventLog
from demo.live.frames import FrameReader
from demo.live.limits import FRAME_BYTES, FRAME_PIXELS
from demo.live.session import Mark, Session
from demo.web.lateness import LatenessMonitor
from demo.web.player import Player
from demo.web.questions import Questions
from demo.web.videos import to_jpeg

FRAMES_A_SECOND = 30.0  # of a webcam


@dataclass
class CommentaryRun(Session):
    """Session of a tab. number: of the tab's runs. player: paces a file; None where frames come at their own time."""

    number: int = 0
    player: Player | None = None
    tell: Callable[["CommentaryRun", dict], None] = lambda run, record: None
    lateness: LatenessMonitor = field(default_factory=LatenessMonitor)

    def __post_init__(self):
        super().__post_init__()
        self.questions = Questions(str(self.number))

    def hear(self, record: dict) -> dict:
        """Take a record of the engine, in its thread, and pass it on."""
        record = super().hear(record)
        if record["type"] == "end" and self.player is not None:
            self.player.close()
        self.tell(self, record)
        return record

    def stop(self) -> None:
        """End it: a step in progress is given up."""
        if self.stream is not None:
            self.stream.close()
        if self.player is not None:
            self.player.close()
        if self.source is not None:
            self.source.close()


def make_run(
    number: int, query: str, limits: VideoLimits, tell: Callable[[CommentaryRun, dict], None]
) -> CommentaryRun:
    """A run that has no stream yet."""
    return CommentaryRun(
        str(number), query, True, EventLog(asyncio.get_running_loop(), n_kept=64),
        FrameReader(limits, FRAME_BYTES, FRAME_PIXELS), TokenBucket(FRAMES_A_SECOND), Mark(0, 0.0, 0),
        number=number, tell=tell,
    )  # fmt: skip


class Preview:
    """A source whose frames are also kept as JPEGs, the latest one, for a page that cannot open the source itself."""

    def __init__(self, source: Source, shown: Callable[[bytes], None]):
        self._source, self._shown = source, shown

    def __iter__(self) -> Iterator[TimedFrame]:
        for timed in self._source:
            self._shown(to_jpeg(Image.fromarray(timed.frame.permute(1, 2, 0).numpy())))
            yield timed


class Latest:
    """The latest of what comes from any thread, for one who waits in an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop, self._lock = loop, threading.Lock()
        self._value: bytes | None = None
        self._there = asyncio.Event()

    def put(self, value: bytes) -> None:
        """Replace what nobody has taken."""
        with self._lock:
            self._value = value
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._there.set)

    async def take(self) -> bytes:
        """Wait for the next."""
        while True:
            await self._there.wait()
            self._there.clear()
            with self._lock:
                value, self._value = self._value, None
            if value is not None:
                return value
