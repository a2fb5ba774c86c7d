"""One viewing: commentary step by step, questions answered in between, and a record of all that was said."""

import contextlib
import json
import statistics
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from data.sources.source import Source
from data.video.live import TimedFrame
from models.load import Checkpoint
from models.streaming.engine import Engine, EngineOptions
from models.streaming.options import StreamOptions
from models.streaming.session import Clock
from models.streaming.stream import Stream
from utils.errors import UserError
from utils.files import partial_file
from utils.stop_signals import Stopped

POLL_S = 0.02
LEAVE_S = 2.0  # how long the end of the thread that reads the source is waited for: more than a frame takes
HELP = """\
Type a question at any time; it is answered about what was seen so far, while the commentary goes on.
/save FILE   write everything said so far to a JSON file
/help        this text
/quit        end (Ctrl-C and Ctrl-D end too)"""


class View(Protocol):
    """View of a conversation, and source of typed lines (demo/terminal.py)."""

    lines: Any  # queue of str; None stands for Ctrl-C
    stays: bool  # whether to wait for more questions when the video has ended

    def show(self, record: dict) -> None:
        """Show a record: its "type" is header, step, answer or end."""

    def progress(self, text: str) -> None:
        """Show the beginning of an answer that is not finished."""

    def say(self, text: str) -> None:
        """Tell the person at the keyboard something that is no record."""


class Quit(Exception):
    """The person typed /quit."""


class Viewing:
    """Runs one stream of an engine to its end, passes questions to it, and keeps the record."""

    def __init__(
        self, checkpoint: Checkpoint, options: StreamOptions, view: View, header: dict, output_json: str | None = None
    ):
        self.checkpoint, self.options, self.view, self.output_json = checkpoint, options, view, output_json
        self.header = {"type": "header", **header}
        self.records: list[dict] = [self.header]
        self.steps: list[dict] = []
        self.heard: SimpleQueue[dict] = SimpleQueue()  # records of the engine's thread
        self.pieces: dict[int, str] = {}  # of the answers in progress, by the number of the question
        self.final: dict = {}  # the stream's own end record
        self.started = time.monotonic()
        self.stream: Stream | None = None
        self.pump: threading.Thread | None = None  # reads the source
        self.source: Source | None = None

    def run(self, source: Iterable[TimedFrame], realtime: bool, max_lag_s: float) -> int:
        """Comment on timed frames; return the exit status. However it ends, the record gets its end.

        source: timed frames, or a data.sources Source. A live one keeps its own time and has messages.
        """
        reason = "failed"
        self.source = source if isinstance(source, Source) else None
        # Two: on a GPU the stream and the fork that answers decode in one graph.
        engine = Engine(self.checkpoint, EngineOptions(max_sessions=2, max_lag_s=max_lag_s))
        try:
            self.view.show(self.header)
            self.stream = engine.open(self.heard.put, self.options, realtime=realtime, stays_open=self.view.stays)
            reason = self._follow(engine, source)
        except KeyboardInterrupt as stop:
            reason = f"stopped by {stop}" if isinstance(stop, Stopped) else "interrupted"
            raise
        except UserError as error:
            reason = f"error: {error}"
            raise
        finally:
            try:
                self._close(engine)
            finally:  # an impatient second Ctrl-C loses no record
                self._end(reason)
        return 0

    def _follow(self, engine: Engine, source: Iterable[TimedFrame]) -> str:
        """Show what the stream says and pass on what is typed, until either ends it."""
        is_live = self.source is not None and self.source.is_live
        told_end = False
        try:
            self._take_lines()  # what was typed before the first frame is asked about the first step
            self.pump = engine.watch(self.stream, source, Clock() if self.stream.realtime and not is_live else None)
            while not self.final:
                self._take_lines()
                self._say_events()
                with contextlib.suppress(Empty):
                    self._hear(self.heard.get(timeout=POLL_S))
                if self.view.stays and self.stream.has_caught_up and not told_end:
                    told_end = True
                    self.view.say("The video has ended. Ask on, or /quit.")
            self._say_events()
        except Quit:
            return "quit"
        return "end of video"

    def _close(self, engine: Engine) -> None:
        """End the stream, and wait for the thread that reads the source: the interpreter must not end beneath it."""
        if self.stream is not None:
            self.stream.close()
        if self.source is not None:
            self.source.close()
        engine.close()
        if self.pump is not None:
            self.pump.join(LEAVE_S)
        while not self.heard.empty():
            if (record := self.heard.get())["type"] == "end":
                self.final = record
            elif "unanswered" in record:
                self._add(record)

    def _say_events(self) -> None:
        """Say what a live source has to say."""
        while self.source is not None and not self.source.events.empty():
            self.view.say(f"{self.source.name}: {self.source.events.get()}")

    def _hear(self, record: dict) -> None:
        kind = record["type"]
        if kind == "step":
            self.steps.append(record)
            self._add(record)
        elif kind == "piece":
            self.pieces[record["id"]] = self.pieces.get(record["id"], "") + record["text"]
            self.view.progress(self.pieces[record["id"]])
        elif kind == "answer":
            self.pieces.pop(record["id"], None)
            self._add(record)
        elif kind == "error":
            raise UserError(record["message"])
        else:
            self.final = record

    def _take_lines(self) -> None:
        while not self.view.lines.empty():
            self._take(self.view.lines.get())

    def _take(self, line: str | None) -> None:
        if line is None:
            raise KeyboardInterrupt
        command, _, rest = line.strip().partition(" ")
        if command == "/quit":
            raise Quit
        if command == "/save":
            self._save_as(rest.strip())
        elif command.startswith("/"):
            self.view.say(HELP if command == "/help" else f"{command}: no such command\n{HELP}")
        elif command:
            self._ask(line.strip())

    def _ask(self, question: str) -> None:
        """Pass a question on; it is answered once something was seen."""
        if self.options.compat is not None:
            self.view.say(f"{question}: goes with the next step, whose words answer it (--compat livecc)")
        self.stream.ask(question)

    def _add(self, record: dict) -> None:
        self.records.append(record)
        self.view.show(record)

    def _end(self, reason: str) -> None:
        steps, final = self.steps, self.final or (self.stream.record() if self.stream else {})
        lost = self.source.n_dropped if self.source else 0  # by the source itself, before they came
        latencies = [step["latency_s"] for step in steps]
        record = {
            "type": "end", "reason": reason, "n_steps": len(steps),
            "n_words": sum(len(step["text"].split()) for step in steps),
            "n_frames": final.get("n_frames", 0) + lost, "n_dropped": final.get("n_dropped", 0) + lost,
            "wall_s": round(time.monotonic() - self.started, 2),
            "median_latency_s": round(statistics.median(latencies), 4) if steps else None,
            "max_lag_s": max((step["lag_s"] for step in steps), default=None),
        }  # fmt: skip
        self.records.append(record)
        if self.output_json:  # before it is shown: the reader of our output may be gone
            self.save(Path(self.output_json))
        self.view.show(record)

    def _save_as(self, name: str) -> None:
        try:
            self.save(Path(name or "commentary.json"))
            self.view.say(f"saved to {name or 'commentary.json'}")
        except OSError as error:
            self.view.say(f"/save {name}: {error.strerror or error}; give another path")

    def save(self, path: Path) -> None:
        """Write the record so far as one JSON object: header, steps, answers and the end."""
        kinds = {kind: [r for r in self.records if r["type"] == kind] for kind in ("step", "answer", "end")}
        said = {"steps": kinds["step"], "answers": kinds["answer"], "end": next(iter(kinds["end"]), None)}
        whole = {**self.header, "type": "viewing", **said}
        with partial_file(path) as partial:
            partial.write_text(json.dumps(whole, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
