"""One viewing: commentary step by step, questions answered in between, and a record of all that was said."""

import json
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data.live import TimedFrame
from data.sources.stream import StreamSource
from models.streaming import Clock, Step, StreamingSession, comment
from utils.errors import UserError
from utils.files import partial_file

# An answer moves on by this many pieces after each step even when the commentary has no time to spare.
PIECES_PER_STEP = 4
POLL_S = 0.02
HELP = """\
Type a question at any time; it is answered about what was seen so far, while the commentary goes on.
/save FILE   write everything said so far to a JSON file
/help        this text
/quit        end (Ctrl-C and Ctrl-D end too)"""


class View(Protocol):
    """Where a conversation is shown, and where typed lines come from (demo/terminal.py)."""

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


@dataclass
class Answer:
    """An answer that is being generated."""

    question: str
    asked_s: float  # the video's second of the last step before it
    pieces: Iterator[str]
    started: float
    text: str = ""


class AttentiveClock(Clock):
    """A real-time clock that attends to questions while it waits."""

    def __init__(self, attend: Callable[[], bool]):
        super().__init__()
        self.attend = attend

    def wait_until(self, second: float) -> None:
        """Return when that second of the video has played, not before."""
        while (remaining := second - self.now()) > 0:
            if not self.attend():
                time.sleep(min(remaining, POLL_S))


class SourceClock(AttentiveClock):
    """The clock of a live source, which starts with its first frame."""

    def __init__(self, attend: Callable[[], bool], source: StreamSource):
        super().__init__(attend)
        self.source = source

    def now(self) -> float:
        """The source's current second."""
        return self.source.now()


def attended(source: StreamSource, attend: Callable[[], bool]) -> Iterator[TimedFrame]:
    """The frames of a live source, attending to questions while none has come."""
    while not source.has_ended:
        frame = source.next_frame(0 if attend() else POLL_S)
        if frame is not None:
            yield frame


class Viewing:
    """Runs one stream to its end and keeps the record."""

    def __init__(self, session: StreamingSession, view: View, header: dict, output_json: str | None = None):
        self.session, self.view, self.output_json = session, view, output_json
        self.header = {"type": "header", **header}
        self.records: list[dict] = [self.header]
        self.steps: list[dict] = []
        self.questions: deque[str] = deque()  # typed and not yet begun
        self.answer: Answer | None = None
        self.started = time.monotonic()
        self.source: StreamSource | None = None  # a live one

    def run(self, frames: Iterable, realtime: bool, max_lag_s: float) -> int:
        """Comment on timed frames; return the exit status. However it ends, the record gets its end.

        frames: of a file, or a data.sources Source. A live one brings its own clock and messages.
        """
        reason = "failed"
        clock = AttentiveClock(self.attend) if realtime else None
        if isinstance(frames, StreamSource):
            self.source, frames = frames, attended(frames, self.attend)
            clock = SourceClock(self.attend, self.source) if realtime else None
        try:
            self.view.show(self.header)
            reason = self._comment(frames, clock, max_lag_s)
        except KeyboardInterrupt:
            reason = "interrupted"
            raise
        except UserError as error:
            reason = f"error: {error}"
            raise
        finally:
            self._end(reason)
        return 0

    def _comment(self, frames: Iterable, clock: Clock | None, max_lag_s: float) -> str:
        try:
            for step in comment(self.session, frames, clock, max_lag_s):
                self._add_step(step)
                for _ in range(PIECES_PER_STEP):
                    self.attend()
            self._finish_answers()
        except Quit:
            return "quit"
        return "end of video"

    def attend(self) -> bool:
        """Do a little for the person: take a typed line, or one piece of an answer. False: nothing to do.

        A question waits for the first step: before it, nothing has been seen. What a live source has to say is shown.
        """
        while self.source is not None and not self.source.events.empty():
            self.view.say(f"{self.source.name}: {self.source.events.get()}")
        if not self.view.lines.empty():
            self._take(self.view.lines.get())
        elif self.answer is not None:
            self._continue_answer()
        elif self.questions and self.steps:
            self._ask(self.questions.popleft())
        else:
            return False
        return True

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
            self.questions.append(line.strip())

    def _ask(self, question: str) -> None:
        pieces = self.session.ask(question)
        if self.session.options.compat == "livecc":
            self.view.say(f"{question}: goes with the next step, whose words answer it (--compat livecc)")
            return
        self.answer = Answer(question, self.steps[-1]["end_s"], pieces, time.perf_counter())
        # A remembered answer is generated in the stream's own context, which the next step needs complete.
        while self.session.options.remember_questions and self.answer is not None:
            self._continue_answer()

    def _continue_answer(self) -> None:
        piece = next(self.answer.pieces, None)
        if piece is not None:
            self.answer.text += piece
            self.view.progress(self.answer.text)
            return
        done, self.answer = self.answer, None
        self._add({
            "type": "answer", "asked_s": done.asked_s, "question": done.question, "text": done.text.strip(),
            "seconds": round(time.perf_counter() - done.started, 3),
        })  # fmt: skip

    def _finish_answers(self) -> None:
        if self.view.stays:
            self.view.say("The video has ended. Ask on, or /quit.")
        while self.attend() or self.view.stays:
            time.sleep(0 if self.answer else POLL_S)

    def _add_step(self, step: Step) -> None:
        record = step.record()
        self.steps.append(record)
        self._add(record)

    def _add(self, record: dict) -> None:
        self.records.append(record)
        self.view.show(record)

    def _end(self, reason: str) -> None:
        steps = self.steps
        latencies = [step["latency_s"] for step in steps]
        record = {
            "type": "end", "reason": reason, "n_steps": len(steps),
            "n_words": sum(len(step["text"].split()) for step in steps),
            "n_dropped": sum(step["n_dropped"] for step in steps) + (self.source.n_dropped if self.source else 0),
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
