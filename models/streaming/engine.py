"""Many live streams on one model: a thread that batches what they need and keeps each within its second.

Each turn of its loop takes one request of every stream that has work (models/streaming/requests.py) and executes them
as one batch, so a stream whose frames arrive joins while others are still speaking. Streams share nothing but the
weights.
"""

import logging
import statistics
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch

from data.samples.words import FIRST_STEP_FRAMES, STEP_FRAMES
from data.video.frame_plan import FPS
from models.load import Checkpoint
from models.streaming.options import StreamOptions
from models.streaming.requests import Batch, Request, StreamTask, VisionRequest
from models.streaming.session import Clock, Step, StreamingSession
from models.streaming.session_file import load_session, save_session
from models.streaming.stream import Listener, Stream
from utils.errors import UserError

log = logging.getLogger(__name__)

LOAD_WINDOW_S = 4.0  # over which the load is measured
LAGS_KEPT = 512
# On a CPU a batch of more streams is hardly cheaper for each, and all of them wait for its slowest: those due first go
# first, a few at a time.
CPU_BATCH_STREAMS = 16


@dataclass(frozen=True)
class EngineOptions:
    """Limits of one engine.

    max_lag_s: beyond which a real-time stream drops late steps (models/streaming/step_queue.py has the rule).
    max_load: a stream is admitted while the expected share of time that the model works stays below it.
    """

    max_sessions: int = 256
    max_lag_s: float = 2.0
    max_load: float = 0.9
    max_batch_tokens: int = 16384  # new tokens read in one batch; the streams that are due first go first
    max_batch_streams: int | None = None  # in one batch; None: all on a GPU, CPU_BATCH_STREAMS on a CPU
    max_rows: int = 32  # on a GPU: streams whose caches share the storage that is decoded in one captured graph


class EngineFull(UserError):
    """Raised where one stream more could not be served in time."""


@dataclass
class StreamJob:
    """Coroutine of a stream in progress: the request it waits for, when it is due, and what takes its result."""

    stream: Stream
    session: StreamingSession
    task: StreamTask
    due_s: float
    finish: Callable[[Any], None]
    renews: bool = False  # due anew with each token: long answers must not hold steps up
    asked: dict | None = None  # of an answer: the fields that its records carry
    request: Request = field(init=False)  # set by `_advance`, which begins it


class Engine:
    """Opens streams and serves them from a thread of its own until it is closed.

    Without the thread (`threaded=False`) `run_pending` does what can be done now. now: the clock of arrivals and lags.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: EngineOptions | None = None,
        threaded: bool = True,
        now: Callable[[], float] = time.monotonic,
    ):
        self.now = now
        self.checkpoint, self.options = checkpoint, options or EngineOptions()
        on_cpu = checkpoint.device.type == "cpu"
        self.max_batch_streams = self.options.max_batch_streams or (CPU_BATCH_STREAMS if on_cpu else sys.maxsize)
        self.batch = Batch(checkpoint.model, n_rows=min(self.options.max_sessions, self.options.max_rows))
        self.changed = threading.Condition()
        self.streams: list[Stream] = []
        self.jobs: list[StreamJob] = []  # the engine thread's alone
        self.step_cost_s = 0.0  # of one stream alone, once `measure` ran
        self.lags: deque[float] = deque(maxlen=LAGS_KEPT)
        self.totals: Counter = Counter(steps=0, tokens=0, words=0, dropped=0, answers=0, errors=0, opened=0)
        self._busy: deque[tuple[float, float]] = deque()  # (when, seconds) of batches
        self._numbers = count(1)
        self._stopping = False
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="saving")
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True) if threaded else None
        if self._thread is not None:
            self._thread.start()

    def open(
        self,
        listener: Listener,
        options: StreamOptions | None = None,
        realtime: bool = True,
        saved: str | Path | None = None,
        stays_open: bool = False,
    ) -> Stream:
        """Admit a stream, a new one or one that was saved. Raises EngineFull when it could not be served in time.

        stays_open: questions are taken after its last frame too, until it is closed.
        """
        self._check_room()
        if saved is None:
            session = StreamingSession(self.checkpoint, options, self.batch)
        else:
            session = load_session(saved, self.checkpoint, self.batch)
        with self.changed:
            self._check_room()
            stream = Stream(
                next(self._numbers), session, listener, self.changed, realtime=realtime,
                max_lag_s=self.options.max_lag_s, stays_open=stays_open, now=self.now,
            )  # fmt: skip
            self.streams.append(stream)
            self.totals["opened"] += 1
        return stream

    def watch(self, stream: Stream, source: Iterable, clock: Clock | None = None) -> threading.Thread:
        """Push a source of timed frames into a stream from a thread of its own, at the clock's pace if there is one.

        A source that fails ends its own stream with an error record, and no other.
        """
        thread = threading.Thread(target=self._pump, args=(stream, source, clock), daemon=True)
        thread.start()
        return thread

    def stats(self) -> dict:
        """Totals, load (share of the last seconds that the model worked) and the lags of the latest steps."""
        with self.changed:
            lags = sorted(self.lags)
            return {
                **self.totals, "dropped": self.totals["dropped"] + sum(s.queue.n_dropped for s in self.streams),
                "streams": len(self.streams), "load": round(self._load(), 4),
                "lag_p50_s": statistics.median(lags) if lags else 0.0,
                "lag_p99_s": lags[min(int(len(lags) * 0.99), len(lags) - 1)] if lags else 0.0,
                "cache_bytes": sum(stream.record()["cache_bytes"] for stream in self.streams),
            }  # fmt: skip

    def measure(self, size_hw: tuple[int, int], n_steps: int = 4) -> float:
        """Measure the seconds of a step of one stream alone, on noise: what admission reckons with at first.

        Before any stream is opened; also warms the model up.
        """
        session = StreamingSession(self.checkpoint, StreamOptions(max_new_tokens=8), self.batch)
        picture = torch.randint(0, 256, (FIRST_STEP_FRAMES, 3, *size_hw), dtype=torch.uint8)
        times = []
        try:
            for number in range(n_steps):
                started = time.perf_counter()
                start_s = 0.0 if number == 0 else 2.0 + number
                session.step(picture if number == 0 else picture[:STEP_FRAMES], start_s, 3.0 + number)
                times.append(time.perf_counter() - started)
        finally:
            session.close()  # its row of the pool is the next stream's
        self.step_cost_s = statistics.median(times[1:])
        return self.step_cost_s

    def close(self, save_to: str | Path | None = None) -> list[Path]:
        """Stop after the steps in progress. Streams are saved in the folder `save_to`, or end. Returns the files.

        A stream that cannot be saved says so in an error record, and ends.
        """
        with self.changed:
            self._stopping = True
            self.changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._saver.shutdown()
        saved = []
        for stream in list(self.streams):
            reason = "engine closed"
            if save_to is not None:
                try:
                    saved.append(save_session(stream.session, Path(save_to) / f"stream_{stream.number}.safetensors"))
                    reason = "saved"
                except UserError as error:
                    self._tell(stream, {"type": "error", "message": str(error)})
            with self.changed:
                self._end(stream, reason)
        return saved

    # admission

    def _load(self) -> float:
        since = time.monotonic() - LOAD_WINDOW_S
        while self._busy and self._busy[0][0] < since:
            self._busy.popleft()
        return sum(seconds for _, seconds in self._busy) / LOAD_WINDOW_S

    def _check_room(self) -> None:
        """Raise EngineFull where one more stream would be too many.

        Each settled stream costs its share of the measured load; one opened a moment ago is not in it yet, and counts
        with that share, or with what a step was measured to cost alone.
        """
        with self.changed:
            n, since = len(self.streams), time.monotonic() - 2 * LOAD_WINDOW_S
            if self._stopping:
                raise EngineFull("the engine is closing; open the stream elsewhere")
            if n >= self.options.max_sessions:
                raise EngineFull(f"{n} streams are open, the limit (max_sessions); close one, or raise the limit")
            n_settled, load = sum(stream.opened_s < since for stream in self.streams), self._load()
            each = load / n_settled if n_settled else self.step_cost_s
            expected = max(load, n_settled * each) + (n - n_settled + 1) * each
            if n and expected > self.options.max_load:
                raise EngineFull(
                    f"{n} streams keep the model busy {load:.0%} of the time and one more is expected to make that "
                    f"{expected:.0%}, over {self.options.max_load:.0%} (max_load); try again when one has ended"
                )

    # the loop

    def run_pending(self) -> None:
        """Execute all that has come, in this thread: for an engine without one of its own."""
        while self._find_work():
            self._run_batch()

    def _run(self) -> None:
        while True:
            with self.changed:
                while not self._find_work():
                    if self._stopping:
                        return
                    self.changed.wait(0.5)
            self._run_batch()

    def _find_work(self) -> bool:
        """Start the tasks that can start; return whether any is in progress."""
        with self.changed:
            self._start_tasks()
            return bool(self.jobs)

    def _run_batch(self) -> None:
        """Execute one request of each chosen job as one batch, and resume the jobs."""
        chosen = self._choose()
        started = time.monotonic()
        replies = self._execute([job.request for job in chosen])
        with self.changed:
            self._busy.append((started, time.monotonic() - started))
            for job, reply in zip(chosen, replies, strict=True):
                if isinstance(reply, Exception):
                    self._fail(job.stream, reply)
                elif not job.stream.closed:
                    self._advance(job, reply)

    def _start_tasks(self) -> None:
        """Give every stream that has nothing in progress its next task: a save, a question, a step."""
        for stream in list(self.streams):
            if stream.closing:
                self._end(stream, stream.reason)
            elif not stream.busy and not self._stopping:
                try:
                    self._start_task(stream)
                except Exception as error:  # one stream's fault must not end the others'
                    self._fail(stream, error)

    def _start_task(self, stream: Stream) -> None:
        while stream.saves:
            # A fork is written by a thread of its own: a slow disk holds no stream up.
            self._saver.submit(_save, stream.session.fork(), *stream.saves.popleft())
        if stream.can_answer:
            self._start_answer(stream, *stream.questions.popleft())
        if not stream.busy:
            self._start_step(stream)
        if stream.is_finished and not any(job.stream is stream for job in self.jobs):
            self._end(stream, "end of source")

    def _start_step(self, stream: Stream) -> None:
        taken = stream.take_step()
        if taken is None:
            return

        def finish(step: Step) -> None:
            stream.count_step(step, taken)
            self.lags.append(step.lag_s)
            self.totals.update(steps=1, tokens=len(step.token_ids), words=len(step.text.split()))
            self._tell(stream, step.record())

        task = stream.session.step_task(taken.frames, taken.start_s, taken.end_s)
        self._begin(StreamJob(stream, stream.session, task, taken.arrived_s, finish))

    def _start_answer(self, stream: Stream, number: int, question: str, clip: VisionRequest | None) -> None:
        if stream.session.options.compat is not None:
            stream.session.query = question  # its answer is what the next step says
            return
        session = stream.session.answering_session()
        stream.busy = session is stream.session
        stream.has_seen = stream.has_seen or stream.busy  # a clip that is remembered is something to ask about
        started, pieces = self.now(), []
        asked = {"id": number, "question": question, "asked_s": stream.end_s}

        def say(piece: str) -> None:
            pieces.append(piece)
            self._tell(stream, {"type": "piece", **asked, "text": piece})

        def finish(_) -> None:
            if session is stream.session:
                stream.busy = False
            else:
                session.close()
            self.totals["answers"] += 1
            seconds = round(self.now() - started, 3)
            self._tell(stream, {"type": "answer", **asked, "text": "".join(pieces).strip(), "seconds": seconds})

        task = session.answer_task(question, say, clip)
        self._begin(StreamJob(stream, session, task, started, finish, renews=True, asked=asked))

    def _begin(self, job: StreamJob) -> None:
        self.jobs.append(job)
        self._advance(job, None)

    def _advance(self, job: StreamJob, reply: object) -> None:
        """Resume a coroutine up to its next request, or to its end."""
        try:
            job.request = job.task.send(reply)
            job.due_s = self.now() if job.renews else job.due_s
            return
        except StopIteration as end:
            result = end.value
        except Exception as error:  # one stream's fault must not end the others'
            self._fail(job.stream, error)
            return
        self.jobs.remove(job)
        job.finish(result)

    def _choose(self) -> list[StreamJob]:
        """Choose the jobs of the next batch: as many as fit, those due first before the others."""
        chosen: list[StreamJob] = []
        room = self.options.max_batch_tokens
        for job in sorted(self.jobs, key=lambda job: job.due_s):
            if not chosen or job.request.n_tokens <= room:
                room -= job.request.n_tokens
                chosen.append(job)
            if len(chosen) == self.max_batch_streams:
                break
        return chosen

    def _execute(self, requests: list[Request]) -> list:
        try:
            return self.batch.execute(requests)
        except Exception as error:  # out of memory, say: these streams are lost, the engine is not
            log.exception("a batch of %d requests failed", len(requests))
            return [error] * len(requests)

    def _pump(self, stream: Stream, source: Iterable, clock: Clock | None) -> None:
        try:
            for timed in source:
                if clock is not None:
                    clock.wait_until(timed.time_s + 1 / FPS)
                if stream.closing or stream.closed:
                    return
                stream.push(timed.time_s, timed.frame)
            stream.end()
        except Exception as error:  # whatever the source does is its own stream's end
            with self.changed:
                if not stream.closing:
                    self._fail(stream, error)

    # ends

    def _fail(self, stream: Stream, error: Exception) -> None:
        """End a stream for a reason that its listener is told; the engine's thread finishes it."""
        if stream.closed:
            return
        if not isinstance(error, UserError):
            log.error("stream %d failed", stream.number, exc_info=error)
        self.totals["errors"] += 1
        self._tell(stream, {"type": "error", "message": str(error) or type(error).__name__})
        stream.closing, stream.reason = True, "failed"
        self.changed.notify_all()

    def _end(self, stream: Stream, reason: str) -> None:
        if stream.closed:
            return
        if reason != "saved":  # a saved stream's frames that wait are sent again
            stream.give_up()
        self._leave_unanswered(stream)
        self.totals["dropped"] += stream.queue.n_dropped
        final = {**stream.record(), "type": "end", "reason": reason}
        stream.closing = stream.closed = True
        for job in self.jobs:
            if job.stream is stream:
                job.session.close()
        self.jobs = [job for job in self.jobs if job.stream is not stream]
        self.streams.remove(stream)
        for path, future in stream.saves:
            future.set_exception(UserError(f"{path}: stream {stream.number} ended before it was saved"))
        stream.session.close()
        self._tell(stream, final)
        self.changed.notify_all()

    def _leave_unanswered(self, stream: Stream) -> None:
        """Tell of every accepted question that gets no answer: its answer's record, empty, with the reason."""
        asked = [job.asked for job in self.jobs if job.stream is stream and job.asked]
        for number, question, _ in stream.questions:
            asked.append({"id": number, "question": question, "asked_s": stream.end_s})
        stream.questions.clear()
        why = "the stream ended first" if stream.has_seen else "nothing was seen that it could be about"
        for one in asked:
            self._tell(stream, {"type": "answer", **one, "text": "", "seconds": 0.0, "unanswered": why})

    def _tell(self, stream: Stream, record: dict) -> None:
        try:
            stream.listener(record)
        except Exception:  # a listener's fault is not the engine's
            log.exception("the listener of stream %d failed", stream.number)


def _save(session: StreamingSession, path: str | Path, future: Future) -> None:
    try:
        future.set_result(save_session(session, path))
    except Exception as error:  # it goes to whoever asked for it
        future.set_exception(error)
    finally:
        session.close()
