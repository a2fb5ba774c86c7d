"""The tests' small model has power: what it says depends on everything that the tests compare it by.

Where words are compared they differ between inputs, and logits differ by far more than any tolerance.
"""

import itertools
from dataclasses import replace

import pytest
import torch

from models.load import load_checkpoint
from models.streaming.options import StreamOptions
from models.streaming.requests import VisionRequest
from models.streaming.session import StreamingSession, comment, timed_frames
from tests.pictures import black, moving, noise
from tests.recorder import Recorder, difference, record

N_FRAMES = 16  # six steps
FILMS = {"noise": noise(N_FRAMES, 1), "other noise": noise(N_FRAMES, 2), "black": black(N_FRAMES)}
FILMS["moving"] = moving(N_FRAMES)
OPTIONS = StreamOptions(max_new_tokens=6, max_answer_tokens=8)
FAR = 0.02  # between logits, which spread by 1; comparisons in float32 have tolerances of 1e-4


@pytest.fixture(scope="module")
def checkpoint(either_checkpoint):
    return load_checkpoint(either_checkpoint, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def watched(checkpoint) -> dict[str, tuple[StreamingSession, list[list[int]]]]:
    """Of each film: the session that has seen it, and the tokens of its steps."""
    sessions = {name: StreamingSession(checkpoint, OPTIONS) for name in FILMS}
    return {
        name: (session, [step.token_ids for step in comment(session, timed_frames(FILMS[name]))])
        for name, session in sessions.items()
    }


def test_films_are_commented_and_answered_differently(watched):
    for (_, first), (_, second) in itertools.combinations(watched.values(), 2):
        assert sum(a == b for a, b in zip(first, second, strict=True)) <= 1  # of six
    assert len({"".join(session.ask("Who?")) for session, _ in watched.values()}) == len(FILMS)


def test_tokens_have_entropy(watched):
    tokens = [token for _, steps in watched.values() for token in itertools.chain.from_iterable(steps)]
    counts = torch.bincount(torch.tensor(tokens))
    odds = counts[counts > 0] / counts.sum()
    assert len(odds) > 40 and float(-(odds * odds.log2()).sum()) > 4  # bits; one token for ever has none


def test_two_questions_and_two_pasts_get_different_answers(checkpoint, watched):
    session, _ = watched["noise"]
    questions = ("Who?", "What is the score?", "Who has the ball?")
    answers = ["".join(session.ask(question)) for question in questions]
    fresh = ["".join(StreamingSession(checkpoint, OPTIONS).ask(question)) for question in questions]
    assert len({*answers, *fresh}) == 2 * len(questions)


class Broken(Recorder):
    """Other features than those of the frames that are shown; `of` makes them."""

    def __init__(self, model, say, of):
        super().__init__(model, say)
        self.of = of

    def execute(self, requests):
        replies = super().execute(requests)
        pairs = zip(requests, replies, strict=True)
        return [(reply[0], self.of(reply[1])) if isinstance(r, VisionRequest) else reply for r, reply in pairs]


def same_words():
    """Words to put in a session's mouth, so that only what is meant to differ does."""
    return itertools.cycle(range(300, 337)).__next__


def logits(checkpoint, film, change=lambda session: None) -> list[torch.Tensor]:
    """From the second step on, after `change` to the session; the words are the same always."""
    session, recorder = record(checkpoint, OPTIONS, say=same_words())
    return heard(session, recorder, film, change)


def heard(session, recorder, film, change=lambda session: None) -> list[torch.Tensor]:
    steps = comment(session, timed_frames(film))
    next(steps)
    change(session)
    first = len(recorder.calls)
    list(steps)
    return recorder.calls[first:]


def forget(session) -> None:
    """The past goes; what stands in its place are the ids that a session starts with."""
    fresh = StreamingSession(session.checkpoint, session.options, session.batch)
    session._state, session.pending = fresh.state, fresh.pending


def shift(session) -> None:
    session.state.positions.next += 40


@pytest.mark.parametrize("name", ["noise", "moving"])
def test_each_input_moves_the_logits(checkpoint, name):
    film = FILMS[name][:10]
    plain = logits(checkpoint, film)
    rolled, blind = (Broken(checkpoint.model, same_words(), of) for of in (lambda f: f.flip(0), torch.zeros_like))
    changed = {
        "features zero": heard(StreamingSession(checkpoint, OPTIONS, blind), blind, film),
        "features in another order": heard(StreamingSession(checkpoint, OPTIONS, rolled), rolled, film),
        "another stream's features": logits(checkpoint, FILMS["other noise"][:10]),
        "no past": logits(checkpoint, film, forget),
        "a gap in the positions": logits(checkpoint, film, shift),
        "positions of one axis": logits(replace(checkpoint, position_mode="sequential"), film),
    }
    assert difference(plain, logits(checkpoint, film)) == (0, 0)
    nearest = {change: difference(plain, others)[0] for change, others in changed.items()}
    assert min(nearest.values()) > FAR, nearest
