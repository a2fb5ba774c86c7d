"""One stream of an engine: frames, questions and requests to save go in from any thread, records come out."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from pathlib import Path
from threading import Condition

import torch
from torch import Tensor

from data.video.frame_plan import FPS, SIZE_FACTOR
from models.streaming.requests import VisionRequest
from models.streaming.session import Step, StreamingSession, new_queue
from models.streaming.step_queue import StepFrames
from utils.errors import UserError

Listener = Callable[[dict], None]
AHEAD_FRAMES = 14  # that wait of a stream that is read as fast as possible; its source waits for room


class Stream:
    """An admitted stream. What it says goes to `listener`, in the engine's thread, as records: dicts with a "type".

    step (models/streaming/session.py); piece and answer, with the id of their question; error; end, the last one.
    """

    def __init__(
        self,
        number: int,
        session: StreamingSession,
        listener: Listener,
        changed: Condition,
        *,
        realtime: bool,
        max_lag_s: float,
        stays_open: bool = False,
        now: Callable[[], float] = time.monotonic,
    ):
        self.number, self.session, self.listener = number, session, listener
        self.realtime, self.stays_open, self.now = realtime, stays_open, now
        self.changed = changed  # guards what follows, and tells the engine
        self.queue = new_queue(session, max_lag_s if realtime else None, now)
        self.questions: deque[tuple[int, str, VisionRequest | None]] = deque()
        self.saves: deque[tuple[str | Path, Future]] = deque()
        self.closing = self.closed = False
        self.reason = "closed"  # said in the last record
        self.opened_s = time.monotonic()
        self.has_seen = self.queue.begun  # something that can be asked about
        self.busy = False  # a task works on its context
        self.taken: StepFrames | None = None  # the step in progress
        self.end_s: float | None = None  # of the latest step
        self.n_steps = self.n_tokens = self.n_words = 0
        self.lag_s = 0.0
        self._last_s = -float("inf")
        self._question_numbers = count(1)

    def push(self, time_s: float, frame: Tensor) -> None:
        """Push the next frame, uint8 [3, H, W] with sides that are multiples of 28, and its second of the stream.

        Never waits for a realtime stream; else until there is room. Raises UserError for a frame that does not fit.
        """
        check_frame(frame)
        with self.changed:
            while not self.realtime and not self.closing and self.queue.n_waiting >= AHEAD_FRAMES:
                self.changed.wait(0.5)
            self._require_open("take frames")
            if time_s <= self._last_s:
                raise UserError(f"a frame at {time_s} s after one at {self._last_s} s; times must grow")
            self._last_s = time_s
            self.queue.push(time_s, frame)
            self.changed.notify_all()

    def end(self) -> None:
        """End the source: what has come is still commented on, then the stream closes unless it `stays_open`."""
        with self.changed:
            self.queue.end()
            self.changed.notify_all()

    def ask(self, question: str, clip: Tensor | None = None, frame_s: float = 1 / FPS) -> int:
        """Ask about what was seen so far, once something was; returns the id that the answer's records carry.

        clip: frames uint8 [T, 3, H, W], T even, given before the question, `frame_s` seconds apart; as in `watch` of a
        session.
        """
        with self.changed:
            if not self.stays_open or self.closing:
                self._require_open("answer")
            number = next(self._question_numbers)
            self.questions.append((number, question, None if clip is None else VisionRequest(clip, frame_s)))
            self.changed.notify_all()
        return number

    def save(self, path: str | Path) -> Path:
        """Save the session between two steps; waits until that is done."""
        future: Future = Future()
        with self.changed:
            self._require_open("be saved")
            self.saves.append((path, future))
            self.changed.notify_all()
        return future.result()

    def close(self) -> None:
        """Close the stream: a step in progress is given up, frames that wait are dropped."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()

    def record(self) -> dict:
        """Report the stream's counts, lag and memory."""
        return {
            "stream": self.number, "n_steps": self.n_steps, "n_words": self.n_words, "n_tokens": self.n_tokens,
            "n_frames": self.queue.n_came, "n_dropped": self.queue.n_dropped, "n_waiting": self.queue.n_waiting,
            "lag_s": round(self.lag_s, 4), **self.session.usage(),
        }  # fmt: skip

    @property
    def ended(self) -> bool:
        """Whether no more frames are taken."""
        return self.queue.ended

    # for the engine, which holds `changed`

    @property
    def can_answer(self) -> bool:
        """Whether a question waits and something was seen that it can be about."""
        return bool(self.questions) and (self.has_seen or self.questions[0][2] is not None)

    @property
    def has_caught_up(self) -> bool:
        """Whether all frames that will come have been commented on."""
        return self.ended and not self.queue.n_waiting and not self.busy

    @property
    def is_finished(self) -> bool:
        """Whether no step and no answer will follow; a question before the first frame has none."""
        return self.has_caught_up and not self.can_answer and not self.stays_open

    def take_step(self) -> StepFrames | None:
        """Take the frames of the next step; None while they have not all come."""
        self.taken = self.queue.take()
        if self.taken is not None:
            self.has_seen = self.busy = True
            self.changed.notify_all()
        return self.taken

    def count_step(self, step: Step, taken: StepFrames) -> None:
        """Add a finished step to the totals."""
        step.account(taken, self.now())
        self.taken, self.busy = None, False
        self.lag_s, self.end_s = step.lag_s, step.end_s
        self.n_steps += 1
        self.n_tokens += len(step.token_ids)
        self.n_words += len(step.text.split())

    def give_up(self) -> None:
        """Count what waits and the step in progress as dropped."""
        self.queue.give_up(self.taken)
        self.taken = None

    def _require_open(self, action: str) -> None:
        if self.ended or self.closing or self.closed:
            raise UserError(f"stream {self.number} has ended and cannot {action} any more; open another one")


def check_frame(frame: Tensor) -> None:
    """Raise UserError unless this is a frame that the vision tower can read."""
    fits = frame.dtype == torch.uint8 and frame.ndim == 3 and frame.shape[0] == 3 and frame.numel()
    if not fits or frame.shape[1] % SIZE_FACTOR or frame.shape[2] % SIZE_FACTOR:
        raise UserError(
            f"a frame of {frame.dtype} {tuple(frame.shape)}: needs uint8 [3, H, W], H and W multiples of "
            f"{SIZE_FACTOR}; resize it (data/video/pixels.py)"
        )
