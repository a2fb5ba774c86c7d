"""A client's session: a stream of the engine, its records, and the rules for what the client sends."""

import asyncio
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import NamedTuple

from data.sources.source import Source
from demo.live.api_error import RETRY_S, ApiError
from demo.live.bucket import TokenBucket
from demo.live.events import EventLog
from demo.live.frame_clock import FrameClock
from demo.live.frames import FrameReader
from models.streaming.stream import AHEAD_FRAMES, Stream
from utils.errors import UserError

MAX_QUESTIONS = 4  # that wait or are being answered: each copies the stream's cache
MAX_WAITING_FRAMES = 64
ROOM_POLL_S = 0.01
MARKS_KEPT = 512


class Mark(NamedTuple):
    """After `n_steps` steps of the stream's whole life its comments reach to end_s, and its records to seq."""

    n_steps: int
    end_s: float
    seq: int


@dataclass
class Session:
    """Frames, questions and requests of one session; `hear` takes what the engine says, in its thread."""

    id: str
    query: str
    realtime: bool
    log: EventLog
    reader: FrameReader
    bucket: TokenBucket
    begun: Mark  # where it stood when it was opened
    source_name: str | None = None
    source: Source | None = None
    shown_path: tuple[str, str] | None = None  # the server's path of the source, and the client's name for it
    stream: Stream | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # frames are taken one after the other
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)
    hearing: threading.Lock = field(default_factory=threading.Lock)  # a step's record and its mark come together
    frames: Counter = field(default_factory=Counter)
    heard_s: float = field(default_factory=time.monotonic)  # when a client last wanted something
    n_asked: int = 0
    n_answered: int = 0

    def __post_init__(self):
        self.clock = FrameClock(self.begun.end_s)
        self.marks: deque[Mark] = deque([self.begun], maxlen=MARKS_KEPT)

    def hear(self, record: dict) -> dict:
        """Take a record of the engine; returns it as clients may see it."""
        self.n_answered += record["type"] == "answer"
        if record["type"] == "error" and self.shown_path:
            record = {**record, "message": record["message"].replace(*self.shown_path)}
        with self.hearing:
            seq = self.log.append(record)
            if record["type"] == "step":
                self.marks.append(Mark(self.marks[-1].n_steps + 1, record["end_s"], seq))
        if record["type"] == "end" and self.source is not None:
            self.source.close()
        return record

    def state_after(self, n_steps: int) -> tuple[Mark, int] | None:
        """The mark of a step, and the last record before the next step's; None where it is too long ago."""
        with self.hearing:
            marks, last_seq = list(self.marks), self.log.last_seq
        at = next((i for i, mark in enumerate(marks) if mark.n_steps == n_steps), None)
        if at is None:
            return None
        return marks[at], marks[at + 1].seq - 1 if at + 1 < len(marks) else last_seq

    async def push(self, encoded: bytes, time_s: float | None) -> dict:
        """Take a JPEG. Waits where the stream is no realtime one and has enough. Raises ApiError."""
        self.touch()
        if (wait_s := self.bucket.take(time.monotonic())) > 0:
            self.frames["refused"] += 1
            raise ApiError(
                429, "too many frames", limit=f"{self.bucket.rate:g} a second", retry_s=wait_s,
                next_step="2 a second are looked at; send fewer",
            )  # fmt: skip
        now_s = time.monotonic()
        async with self.lock:
            try:
                return await self._take(encoded, time_s, now_s)
            except ApiError:
                self.frames["refused"] += 1
                raise

    async def _take(self, encoded: bytes, time_s: float | None, now_s: float) -> dict:
        self.require_open()
        if self.source is not None:
            raise ApiError(409, "a frame for a session that watches a source", next_step="open one without a source")
        grid_s = self.clock.place(time_s, now_s)
        if grid_s is None:
            self.frames["thinned"] += 1
            return {"taken": False, "grid_s": None}
        await self._wait_for_room()
        frame = await asyncio.to_thread(self.reader.read, encoded)
        self.require_open()
        await asyncio.to_thread(self.stream.push, grid_s, frame)
        self.clock.take(grid_s, time_s is not None, now_s)
        self.frames["taken"] += 1
        return {"taken": True, "grid_s": grid_s}

    async def _wait_for_room(self) -> None:
        """So that `Stream.push` does not wait in a thread that other sessions need."""
        if self.realtime and self.stream.queue.n_waiting >= MAX_WAITING_FRAMES:
            raise ApiError(
                503, f"{self.stream.queue.n_waiting} frames wait for the model", limit=MAX_WAITING_FRAMES,
                cause="it is slower than the frames come", next_step="send on later", retry_s=RETRY_S,
            )  # fmt: skip
        while not self.realtime and self.stream.queue.n_waiting >= AHEAD_FRAMES:
            self.require_open()
            self.touch()
            await asyncio.sleep(ROOM_POLL_S)

    async def ask(self, question: str) -> int:
        """Ask; returns the number of the answer. Raises ApiError where too many are under way."""
        self.touch()
        self.require_open()
        if self.n_asked - self.n_answered >= MAX_QUESTIONS:
            raise ApiError(
                429, f"{MAX_QUESTIONS} questions are being answered", limit=MAX_QUESTIONS, retry_s=RETRY_S,
                next_step="wait for an answer; before the first frames nothing can be answered",
            )  # fmt: skip
        self.n_asked += 1
        try:
            return await asyncio.to_thread(self.stream.ask, question)
        except UserError:
            self.n_asked -= 1
            raise

    def require_open(self) -> None:
        """Raise ApiError where the session has ended, or is ending."""
        if self.log.ended or self.stream is None or self.stream.ended or self.stream.closing:
            raise ApiError(409, f"session {self.id} has ended", next_step="open another one with POST /sessions")

    def touch(self) -> None:
        """Note that a client wants something."""
        self.heard_s = time.monotonic()

    def idle_s(self) -> float:
        """Seconds since a client wanted something; one that follows the records wants them."""
        if self.log.n_readers:
            self.touch()
        return time.monotonic() - self.heard_s

    def state(self) -> dict:
        """The fields of SessionState."""
        record = self.stream.record()
        lost = self.source.n_dropped if self.source else 0
        return {
            "id": self.id, "state": "ended" if self.log.ended else "open", "query": self.query,
            "source": self.source_name, "realtime": self.realtime, "next_s": self.marks[-1].end_s,
            "last_seq": self.log.last_seq, "n_thinned": self.frames["thinned"],
            "n_refused": self.frames["refused"], "n_dropped": record.pop("n_dropped") + lost,
            **{name: value for name, value in record.items() if name != "stream"},
        }  # fmt: skip
