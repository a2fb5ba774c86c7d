"""The streaming loop: a session reads two frames a second and says, second by second, what it sees.

Command line, web page, evaluations and servers all run on this loop.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from data.samples.conversation import Turn
from data.samples.words import SILENCE, step_label
from data.video.frame_plan import FPS
from data.video.live import TimedFrame
from models.load import Checkpoint
from models.streaming.decoding import TokenChoice
from models.streaming.memory import check_memory
from models.streaming.options import StreamOptions
from models.streaming.requests import Batch, DecodeRequest, StreamTask, VisionRequest, reply_to, run_alone
from models.streaming.step_queue import StepFrames, StepQueue
from models.streaming.stream_state import StreamState

WORDS_SAVED_S = 3.0  # seconds of words that silence may save under a cap on their rate


@dataclass
class Step:
    """Speech for [start_s, end_s]: the words, the tokens generated, and what they cost."""

    start_s: float
    end_s: float
    text: str
    token_ids: list[int]
    timings_s: dict[str, float]  # vision, prefill, decode
    n_context: int  # tokens in the cache
    lag_s: float = 0.0  # how long after its last frame came the step was spoken
    n_frames: int = 0  # that came for it
    n_dropped: int = 0  # frames skipped before this step because the model was late

    @property
    def latency_s(self) -> float:
        """Seconds from the step's frames to its last word."""
        return sum(self.timings_s.values())

    def account(self, taken: StepFrames, now_s: float) -> None:
        """Record its lag, and how many frames came for it and were dropped before it."""
        self.lag_s = max(0.0, now_s - taken.arrived_s)
        self.n_frames, self.n_dropped = taken.n_frames, taken.n_dropped

    def record(self) -> dict:
        """Make the JSON object that command line and server write."""
        return {
            "type": "step", "start_s": self.start_s, "end_s": self.end_s, "text": self.text,
            "latency_s": round(self.latency_s, 4), "lag_s": round(self.lag_s, 4),
            "n_frames": self.n_frames, "n_dropped": self.n_dropped,
            "timings_s": {name: round(seconds, 4) for name, seconds in self.timings_s.items()},
            "n_tokens": len(self.token_ids), "n_context": self.n_context,
        }  # fmt: skip


@dataclass
class Clock:
    """Clock of a video that plays in real time: its second `t` comes `t` seconds after the start."""

    started_s: float = field(default_factory=time.monotonic)

    def wait_until(self, second: float) -> None:
        """Sleep until that second of the video has played."""
        time.sleep(max(0.0, second - self.now()))

    def now(self) -> float:
        """The video's current second."""
        return time.monotonic() - self.started_s


class StreamingSession:
    """One stream: the state of its model, what is still to be fed, and how tokens are chosen.

    `step`, `ask` and `watch` run alone; `step_task` and `answer_task` are the same as coroutines, which a batch of many
    streams runs (models/streaming/requests.py). state: of a fork.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: StreamOptions | None = None,
        batch: Batch | None = None,
        state: StreamState | None = None,
    ):
        self.checkpoint = checkpoint
        self.options = options or StreamOptions()
        self.batch = batch or checkpoint.batch
        self.chat = checkpoint.chat
        self.generator = torch.Generator(checkpoint.device).manual_seed(self.options.seed)
        mode = self.options.compat or checkpoint.position_mode
        self._state: StreamState | None = state or StreamState(
            checkpoint.model, mode, self.options.retention, cache=self.batch.new_cache()
        )
        self.pending: list[int] = self.chat.system_ids()  # fed with the next turn
        self.query: str | None = self.options.query or None
        self.origin_s: float | None = None  # the stream's first moment; labels count from it, as in training
        self.words_saved = 0.0  # words that a cap on their rate leaves to say

    @property
    def state(self) -> StreamState:
        """State of the model. Raises ValueError once the session is closed."""
        if self._state is None:
            raise ValueError("this session is closed; open another, or fork it before it is closed")
        return self._state

    def usage(self) -> dict[str, int]:
        """Tokens in the cache and bytes of it: zeros once the session is closed."""
        state = self._state
        return {"n_context": state.n_tokens if state else 0, "cache_bytes": state.cache.n_bytes if state else 0}

    def fork(self) -> "StreamingSession":
        """Copy the session: the same past, and a future of its own."""
        state = self.state.fork(self.batch.fork(self.state.cache))
        other = StreamingSession(self.checkpoint, self.options, self.batch, state)
        other.generator.set_state(self.generator.get_state())
        other.pending, other.query = list(self.pending), self.query
        other.origin_s, other.words_saved = self.origin_s, self.words_saved
        return other

    def step(self, frames: Tensor, start_s: float, end_s: float) -> Step:
        """Read a step's frames, uint8 [T, 3, H, W] with T even, and comment on them."""
        return run_alone(self.step_task(frames, start_s, end_s), self.batch)

    def ask(self, question: str) -> Iterator[str]:
        """Answer a question about what was seen so far, piece by piece.

        The commentary neither waits nor remembers: the answer is generated on a fork, unless `remember_questions`.
        Under `compat="livecc"` there is no answer; the question is part of the next step's turn.
        """
        if self.options.compat == "livecc":
            self.query = question
            return iter(())
        session = self.answering_session()
        return session._pieces(question, close=session is not self)

    def answering_session(self) -> "StreamingSession":
        """Session that answers a question: a fork, or this one where questions are remembered."""
        return self if self.options.remember_questions else self.fork()

    def watch(self, frames: Tensor, question: str, frame_s: float = 1 / FPS) -> Iterator[str]:
        """Answer a question about a whole clip, uint8 [T, 3, H, W], given before the question as one video.

        frame_s: seconds that each frame stands for (FramePlan.frame_s).
        """
        return self._pieces(question, VisionRequest(frames, frame_s))

    def close(self) -> None:
        """Release the cache's memory."""
        if self._state is not None:
            self.batch.release(self._state.cache)
            self._state = None

    def step_task(self, frames: Tensor, start_s: float, end_s: float) -> StreamTask:
        """Coroutine of `step`; returns a Step."""
        started = time.perf_counter()
        self.origin_s = start_s if self.origin_s is None else self.origin_s
        since_s, until_s = start_s - self.origin_s, end_s - self.origin_s
        self.pending = [*self.state.begin_step(until_s), *self.pending]
        block, features = yield VisionRequest(frames)
        encoded = time.perf_counter()
        parts = [step_label(since_s, until_s), block, *([self.query] if self.query else [])]
        self.query = None
        times = [encoded]
        self._allow_words(end_s - start_s)
        token_ids = yield from self._speak(parts, [block], features, until_s, times=times)
        finished = time.perf_counter()
        timings = {"vision": encoded - started, "prefill": times[1] - encoded, "decode": finished - times[1]}
        text = self.chat.decode(token_ids).removesuffix(SILENCE)
        if self.options.compat is None:
            text = text.strip()
        self.words_saved -= len(text.split())
        return Step(start_s, end_s, text, token_ids, timings, self.state.n_tokens)

    def answer_task(self, question: str, say: Callable[[str], None], clip: VisionRequest | None = None) -> StreamTask:
        """Coroutine of `ask`, or of `watch` with a clip; `say` is called with each piece. Returns the ids said."""
        parts, blocks, features = [question], [], None
        if clip is not None:
            block, features = yield clip
            parts, blocks = [block, question], [block]
        shown = ""

        def show(said: list[int]) -> None:
            nonlocal shown
            text = self.chat.decode(said)
            if not text.endswith("\ufffd"):  # half a character: wait for its other bytes
                say(text[len(shown) :])
                shown = text

        return (yield from self._speak(parts, blocks, features, show=show))

    def _pieces(self, question: str, clip: VisionRequest | None = None, close: bool = False) -> Iterator[str]:
        said: list[str] = []
        task, reply = self.answer_task(question, said.append, clip), None
        try:
            while True:
                try:
                    request = task.send(reply)
                except StopIteration:
                    yield from said
                    return
                yield from said
                said.clear()
                reply = reply_to(request, self.batch)
        finally:
            if close:
                self.close()

    def _speak(
        self,
        parts: list,
        blocks: list,
        features: Tensor | None,
        end_s: float | None = None,
        show: Callable[[list[int]], None] = lambda said: None,
        times: list[float] | None = None,
    ) -> StreamTask:
        """Prefill what is pending, a user turn and the assistant's header, then decode; return the ids of what is said.

        end_s: the stream's second at the end of a step; None for an answer, which " ..." does not end. The last token
        is not fed here: it goes with the next turn, or is the end. times: gains the moment of the first token.
        """
        spoken, compat = end_s is not None, self.options.compat == "livecc"
        limit = self.options.max_new_tokens if spoken else self.options.max_answer_tokens
        ids = [*self.pending, *self.chat.turn_ids(Turn("user", parts)), *self.chat.header_ids("assistant")]
        check_memory(self.checkpoint.model, len(ids), self.state.cache.n_live)
        closing = self.chat.closing_ids()
        self.pending = closing
        said: list[int] = []
        token = yield DecodeRequest(self.state, ids, self._choice(0, spoken), blocks, features, end_s or 0.0)
        if times is not None:
            times.append(time.perf_counter())
        while True:
            if spoken and self._over_the_cap(said, token):
                token = self.chat.silence
            said.append(token)
            if token in self.checkpoint.eos_ids:
                show(said)
                return said
            if not compat:
                self.pending = [token, *closing]
            show(said)
            if len(said) == limit or (spoken and not compat and token == self.chat.silence):
                return said
            token = yield DecodeRequest(self.state, [token], self._choice(len(said), spoken))
            self.pending = closing

    def _choice(self, n_said: int, spoken: bool) -> TokenChoice:
        options = self.options
        least = None
        if spoken and options.silence_threshold_base is not None:
            least = options.silence_threshold_base + options.silence_threshold_step * n_said
        return TokenChoice(options, self.chat.silence, self.generator, least)

    def _allow_words(self, seconds: float) -> None:
        """Renew the words that may be said: the cap's for this step, and what earlier ones left of a few seconds."""
        if self.options.words_per_second is not None:
            most = self.options.words_per_second * WORDS_SAVED_S
            self.words_saved = min(self.words_saved + self.options.words_per_second * seconds, most)

    def _over_the_cap(self, said: list[int], token: int) -> bool:
        """Whether `token` begins a word too many."""
        if self.options.words_per_second is None or token == self.chat.silence:
            return False
        return len(self.chat.decode([*said, token]).split()) > self.words_saved


def timed_frames(frames: Tensor, start_s: float = 0.0) -> Iterator[TimedFrame]:
    """Make a source of a clip's frames, uint8 [T, 3, H, W] at 2 a second."""
    return (TimedFrame(start_s + i / FPS, frame) for i, frame in enumerate(frames))


def comment(
    session: StreamingSession,
    source: Iterable[TimedFrame],
    clock: Clock | None = None,
    max_lag_s: float = 2.0,
    queue: StepQueue | None = None,
) -> Iterator[Step]:
    """Comment on a source of timed frames, 2 a second, as they come.

    models/streaming/step_queue.py has the rules of steps. A source that ends inside a step has its last frame repeated
    (the published loop leaves such a rest out, and so does `compat`). With a clock, a frame comes when it has played,
    and late steps are dropped; without one, frames come as fast as they are asked for and none is late. queue: whose
    counts the caller wants to read.
    """
    if queue is None:
        queue = new_queue(session, None if clock is None else max_lag_s, clock.now if clock else time.monotonic)
    reader = _SourceReader(source, clock, queue)
    while True:
        if queue.is_late:
            reader.receive_played()
        taken = queue.take()
        if taken is not None:
            yield speak(session, taken, queue.now)
        elif queue.ended:
            return
        else:
            reader.receive()


class _SourceReader:
    """Pushes a source's frames into a queue as they come: with a clock, when a frame has been on screen."""

    def __init__(self, source: Iterable[TimedFrame], clock: Clock | None, queue: StepQueue):
        self.frames, self.clock, self.queue = iter(source), clock, queue
        self._ahead: TimedFrame | None = None  # read, and not yet played

    def receive(self) -> None:
        """Wait for the next frame; at the source's end, end the queue."""
        frame = self._peek()
        if frame is None:
            self.queue.end()
            return
        self._ahead = None
        if self.clock is not None:
            self.clock.wait_until(frame.time_s + 1 / FPS)
        self.queue.push(frame.time_s, frame.frame, None if self.clock is None else frame.time_s + 1 / FPS)

    def receive_played(self) -> None:
        """Push all that has played by now, the source's end included."""
        while not self.queue.ended and ((frame := self._peek()) is None or self._has_played(frame)):
            self.receive()

    def _has_played(self, frame: TimedFrame) -> bool:
        return self.clock is None or frame.time_s + 1 / FPS <= self.clock.now()

    def _peek(self) -> TimedFrame | None:
        if self._ahead is None:
            self._ahead = next(self.frames, None)
        return self._ahead


def new_queue(session: StreamingSession, max_lag_s: float | None, now: Callable[[], float]) -> StepQueue:
    """Make the queue of a session's frames, at the start or where it was saved."""
    return StepQueue(session.origin_s is not None, max_lag_s, session.options.compat is not None, now)


def speak(session: StreamingSession, taken: StepFrames, now: Callable[[], float]) -> Step:
    """Read a step's frames and comment on them."""
    step = session.step(taken.frames, taken.start_s, taken.end_s)
    step.account(taken, now())
    return step
