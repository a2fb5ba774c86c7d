"""One stream of an engine: frames, questions and requests to save go in from any thread, records come out."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count, islice
from pathlib import Path
from threading import Condition

import torch
from torch import Tensor

from data.patches import MERGE, PATCH
from data.words import FIRST_STEP_FRAMES, STEP_FRAMES, frames_without_hole
from models.streaming import Step, StreamingSession
from utils.errors import UserError

Listener = Callable[[dict], None]
AHEAD_FRAMES = 14  # that wait of a stream that is read as fast as possible; its source waits for room


class Stream:
    """An admitted stream. What it says goes to `listener`, in the engine's thread, as records: dicts with a "type".

    step (models/streaming.py); piece and answer, with the id of their question; error; end, the last one.
    """

    def __init__(self, number: int, session: StreamingSession, listener: Listener, realtime: bool, changed: Condition):
        self.number, self.session, self.listener, self.realtime = number, session, listener, realtime
        self.changed = changed  # guards what follows, and tells the engine
        self.frames: deque[tuple[float, Tensor, float]] = deque()  # second of the stream, frame, when it arrived
        self.questions: deque[tuple[int, str, Tensor | None]] = deque()
        self.saves: deque[tuple[str | Path, Future]] = deque()
        self.ended = self.closing = self.closed = False
        self.reason = "closed"  # said in the last record
        self.opened_s = time.monotonic()
        self.first = session.origin_s is None  # its first step is still to come
        self.busy = False  # a task works on its context
        self.n_steps = self.n_tokens = self.n_words = self.n_dropped = 0
        self.n_dropped_since = 0  # the latest step
        self.lag_s = 0.0
        self._last_s = -float("inf")
        self._question_numbers = count(1)

    def push(self, time_s: float, frame: Tensor) -> None:
        """Give the next frame, uint8 [3, H, W] with sides that are multiples of 28, and its second of the stream.

        Never waits for a realtime stream; else until there is room. Raises UserError for a frame that does not fit.
        """
        check_frame(frame)
        with self.changed:
            while not self.realtime and not self.closing and len(self.frames) >= AHEAD_FRAMES:
                self.changed.wait(0.5)
            self._require_open("take frames")
            if time_s <= self._last_s:
                raise UserError(f"a frame at {time_s} s after one at {self._last_s} s; times must grow")
            self._last_s = time_s
            self.frames.append((time_s, frame, time.monotonic()))
            self.changed.notify_all()

    def end(self) -> None:
        """No more frames: what has come is still commented on, then the stream closes."""
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def ask(self, question: str, clip: Tensor | None = None) -> int:
        """Ask about what was seen so far, once something was; returns the id that the answer's records carry.

        clip: frames uint8 [T, 3, H, W], T even, given before the question; what `watch` of a session is (streaming.py).
        """
        with self.changed:
            self._require_open("answer")
            number = next(self._question_numbers)
            self.questions.append((number, question, clip))
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
        """End: a step in progress is given up, frames that wait are forgotten."""
        with self.changed:
            self.closing = True
            self.changed.notify_all()

    def record(self) -> dict:
        """How the stream is doing."""
        context = self.session.context
        return {
            "stream": self.number, "n_steps": self.n_steps, "n_words": self.n_words, "n_tokens": self.n_tokens,
            "n_dropped": self.n_dropped, "lag_s": round(self.lag_s, 4), "n_waiting": len(self.frames),
            "n_context": context.n_tokens if context else 0, "cache_bytes": context.cache.n_bytes if context else 0,
        }  # fmt: skip

    # for the engine, which holds `changed`

    @property
    def can_answer(self) -> bool:
        """Whether the next question, if there is one, has something to be about."""
        return bool(self.questions) and not (self.first and self.questions[0][2] is None)

    @property
    def wanted(self) -> int:
        """Frames of the next step."""
        return FIRST_STEP_FRAMES if self.first else STEP_FRAMES

    @property
    def is_finished(self) -> bool:
        """Whether nothing can come of it any more; a question waits for a step, which may never come."""
        return self.ended and not self.frames and not self.can_answer and not self.busy

    def drop_late(self, max_lag_s: float) -> None:
        """Drop whole steps that would begin too late, as long as a newer one waits."""
        while (
            self.realtime
            and len(self.frames) >= self.wanted + STEP_FRAMES
            and time.monotonic() - self.frames[self.wanted - 1][2] > max_lag_s
        ):
            for _ in range(STEP_FRAMES):
                self.frames.popleft()
            self.n_dropped_since += STEP_FRAMES

    def take_step(self) -> list[tuple[float, Tensor, float]]:
        """The frames of the next step, all of one size; empty while they have not all come.

        There may be fewer where frames are missing or the stream has ended. Raises UserError where the sizes differ.
        """
        next_ones = list(islice(self.frames, self.wanted))
        n = frames_without_hole([time_s for time_s, _, _ in next_ones])
        if n == len(next_ones) < self.wanted and not self.ended:
            return []
        taken = [self.frames.popleft() for _ in range(n)]
        if len({frame.shape for _, frame, _ in taken}) > 1:
            raise UserError(f"frames of different sizes within the step at {taken[0][0]} s; resize them alike")
        self.changed.notify_all()
        return taken

    def count_step(self, step: Step) -> None:
        """Take a step into the totals."""
        step.n_dropped, self.n_dropped_since = self.n_dropped_since, 0
        self.lag_s = step.lag_s
        self.n_steps += 1
        self.n_tokens += len(step.token_ids)
        self.n_words += len(step.text.split())
        self.n_dropped += step.n_dropped

    def _require_open(self, action: str) -> None:
        if self.ended or self.closing or self.closed:
            raise UserError(f"stream {self.number} has ended and cannot {action} any more; open another one")


def check_frame(frame: Tensor) -> None:
    """Raise UserError unless this is a frame that the vision tower can read."""
    side = PATCH * MERGE
    fits = frame.dtype == torch.uint8 and frame.ndim == 3 and frame.shape[0] == 3 and frame.numel()
    if not fits or frame.shape[1] % side or frame.shape[2] % side:
        raise UserError(
            f"a frame of {frame.dtype} {tuple(frame.shape)}: needs uint8 [3, H, W], H and W multiples of {side}; "
            "resize it (data/pixels.py)"
        )
