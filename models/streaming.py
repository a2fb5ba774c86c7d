"""The streaming loop: a session reads two frames a second and says, second by second, what it sees.

Command line, web page, evaluations and servers all run on this loop.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from data.conversation import Turn
from data.live import TimedFrame
from data.words import FIRST_STEP_FRAMES, FPS, SILENCE, STEP_FRAMES, step_label
from models.context import Context, encode_frames
from models.decoding import DecodingOptions, TokenChooser
from models.load import Checkpoint

DEFAULT_QUERY = "Please describe the video."


@dataclass(frozen=True)
class StreamOptions(DecodingOptions):
    """How a session comments.

    `compat="livecc"` counts positions as the published loop does, ends a turn at the checkpoint's eos ids and never at
    " ...", loses a cut-off turn's last token from the context, and lets a question ride on the next step. Its frames
    (by end time, resized in float32) are the source's part.
    """

    query: str = DEFAULT_QUERY
    max_new_tokens: int = 16  # a step
    max_answer_tokens: int = 512
    remember_questions: bool = False
    compat: Literal["livecc"] | None = None


@dataclass
class Step:
    """What was said for [start_s, end_s]: the words, the tokens generated, and what they cost."""

    start_s: float
    end_s: float
    text: str
    token_ids: list[int]
    timings_s: dict[str, float]  # vision, prefill, decode
    n_context: int  # tokens in the cache
    lag_s: float = 0.0  # how long after its last second the step was spoken
    n_dropped: int = 0  # frames skipped before this step because the model was late

    @property
    def latency_s(self) -> float:
        """Seconds from the step's frames to its last word."""
        return sum(self.timings_s.values())


@dataclass
class Clock:
    """A video that plays in real time: its second `t` comes `t` seconds after the start."""

    started_s: float = field(default_factory=time.monotonic)

    def wait_until(self, second: float) -> None:
        """Sleep until that second of the video has played."""
        time.sleep(max(0.0, second - self.now()))

    def now(self) -> float:
        """The video's current second."""
        return time.monotonic() - self.started_s


class StreamingSession:
    """One stream's state: its context, what is still to be fed, and how tokens are chosen."""

    def __init__(self, checkpoint: Checkpoint, options: StreamOptions | None = None):
        self.checkpoint = checkpoint
        self.options = options or StreamOptions()
        self.chat = checkpoint.chat
        self.chooser = TokenChooser(self.options, self.chat.silence, checkpoint.device)
        self.context = Context(checkpoint.model, self.options.compat or checkpoint.position_mode)
        self.pending: list[int] = self.chat.system_ids()  # fed with the next turn
        self.query: str | None = self.options.query or None
        self.origin_s: float | None = None  # the stream's first moment; labels count from it, as in training

    def fork(self) -> "StreamingSession":
        """A session with the same past that goes its own way."""
        other = StreamingSession(self.checkpoint, self.options)
        other.chooser.generator.set_state(self.chooser.generator.get_state())
        other.context, other.pending = self.context.fork(), list(self.pending)
        other.query, other.origin_s = self.query, self.origin_s
        return other

    def step(self, frames: Tensor, start_s: float, end_s: float) -> Step:
        """Read a step's frames, uint8 [T, 3, H, W] with T even, and comment on them."""
        started = time.perf_counter()
        block, features = encode_frames(self.checkpoint.model, frames)
        self.origin_s = start_s if self.origin_s is None else self.origin_s
        label = step_label(start_s - self.origin_s, end_s - self.origin_s)
        parts = [label, block, *([self.query] if self.query else [])]
        self.query = None
        encoded = self._mark()
        logits = self._feed_turn(parts, [block], features)
        prefilled = self._mark()
        token_ids = list(self._generate(logits, self.options.max_new_tokens, spoken=True))
        timings = {"vision": encoded - started, "prefill": prefilled - encoded, "decode": self._mark() - prefilled}
        text = self.chat.decode(token_ids).removesuffix(SILENCE)
        if self.options.compat is None:
            text = text.strip()
        return Step(start_s, end_s, text, token_ids, timings, self.context.n_tokens)

    def ask(self, question: str) -> Iterator[str]:
        """Answer a question about what was seen so far, piece by piece.

        The commentary neither waits nor remembers: the answer is generated on a fork, unless `remember_questions`.
        Under `compat="livecc"` there is no answer; the question is part of the next step's turn.
        """
        if self.options.compat == "livecc":
            self.query = question
            return iter(())
        session = self if self.options.remember_questions else self.fork()
        return session._answer([question])

    def watch(self, frames: Tensor, question: str) -> Iterator[str]:
        """Answer a question about a whole clip, uint8 [T, 3, H, W], given before the question as one video."""
        block, features = encode_frames(self.checkpoint.model, frames)
        return self._answer([block, question], [block], features)

    def close(self) -> None:
        """Give the cache's memory back."""
        self.context = None

    def _answer(self, parts: list, blocks: Iterable = (), features: Tensor | None = None) -> Iterator[str]:
        logits = self._feed_turn(parts, list(blocks), features)
        said: list[int] = []
        shown = ""
        for token in self._generate(logits, self.options.max_answer_tokens, spoken=False):
            said.append(token)
            text = self.chat.decode(said)
            if not text.endswith("\ufffd"):  # half a character: wait for its other bytes
                yield text[len(shown) :]
                shown = text

    def _feed_turn(self, parts: list, blocks: list, features: Tensor | None) -> Tensor:
        """Feed what is pending, a user turn and the assistant's header; return the logits [V] of the first word."""
        ids = [*self.pending, *self.chat.turn_ids(Turn("user", parts)), *self.chat.header_ids("assistant")]
        self.pending = self.chat.closing_ids()
        return self.context.feed(ids, blocks, features)

    def _generate(self, logits: Tensor, max_new_tokens: int, spoken: bool) -> Iterator[int]:
        """Tokens of one assistant turn. The last one is not fed here: it goes with the next turn, or is the end."""
        compat = self.options.compat == "livecc"
        ends = self.checkpoint.eos_ids
        for n_spoken in range(max_new_tokens):
            token = self.chooser.choose(logits, self.context.seen, n_spoken, may_be_silent=spoken)
            if token in ends:
                yield token
                return
            closing = self.chat.closing_ids()
            if not compat:
                self.pending = [token, *closing]
            yield token
            if n_spoken + 1 == max_new_tokens or (spoken and not compat and token == self.chat.silence):
                return
            logits = self.context.feed([token])
            self.pending = closing

    def _mark(self) -> float:
        if self.checkpoint.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def timed_frames(frames: Tensor, start_s: float = 0.0) -> Iterator[TimedFrame]:
    """The frames of a clip, uint8 [T, 3, H, W] at 2 a second, as a source."""
    return (TimedFrame(start_s + i / FPS, frame) for i, frame in enumerate(frames))


def comment(
    session: StreamingSession, source: Iterable[TimedFrame], clock: Clock | None = None, max_lag_s: float = 2.0
) -> Iterator[Step]:
    """Comment on a source of timed frames, 2 a second, as they come.

    The first step reads 6 frames, later ones 2; a source that ends inside a step has its last frame repeated (the
    published loop leaves such a rest out, and so does `compat`). With a clock, a step is spoken when its last second
    has played. Late frames: when a step could only begin more than `max_lag_s` late, its frames are dropped whole
    until one is in time; `Step.n_dropped` and `lag_s` say so.
    """
    held, n_dropped, first = [], 0, True
    frames = iter(source)
    while True:
        wanted = FIRST_STEP_FRAMES if first else STEP_FRAMES
        held = [frame for _, frame in zip(range(wanted), frames, strict=False)]
        if not held or (session.options.compat and len(held) < wanted):
            return
        start_s = held[0].time_s
        end_s = start_s + wanted / FPS
        if clock is not None:
            clock.wait_until(end_s)
            if clock.now() - end_s > max_lag_s and not first:
                n_dropped += len(held)
                continue
        pictures = [frame.frame for frame in held]
        pictures += [pictures[-1]] * (len(pictures) % 2)
        step = session.step(torch.stack(pictures), start_s, end_s)
        step.n_dropped, n_dropped, first = n_dropped, 0, False
        if clock is not None:
            step.lag_s = max(0.0, clock.now() - end_s)
        yield step
