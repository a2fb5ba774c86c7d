"""Questions about a match: their answers are what the moment shows."""

from types import SimpleNamespace

import numpy as np

from data.nano.questions import N_ASKED, QUESTIONS, answer, draw_questions
from data.nano.states import STATE_QUERY, describe_state
from data.nano.world import LENGTH_M, WIDTH_M, play_window

KITS = ("red", "blue")


def test_answers_follow_the_moment():
    moment = SimpleNamespace(score=(2, 1), team=1, ball=(LENGTH_M * 0.9, WIDTH_M * 0.1))
    said = {kind: answer(kind, moment, KITS) for kind in QUESTIONS}
    assert said == {
        "score": "It is two one.",
        "ball": "The blue team.",
        "place": "It is out right, top side.",
        "teams": "It is red against blue.",
    }
    level = SimpleNamespace(score=(1, 1), team=0, ball=(1.0, WIDTH_M - 1))
    assert answer("score", level, KITS) == "It is one all."
    assert answer("place", level, KITS) == "It is out left, bottom side."


def test_the_state_of_play_is_always_asked_for():
    moment = play_window(np.random.default_rng(1), 20.0, 5.0, open_play=True).at(4.0)
    orders = set()
    for seed in range(30):
        asked = draw_questions(moment, KITS, np.random.default_rng(seed))
        assert len(asked) == N_ASKED and len({question for question, _ in asked}) == N_ASKED
        assert (STATE_QUERY, describe_state(moment, KITS)) in asked
        orders.add([question for question, _ in asked].index(STATE_QUERY))
    assert orders == set(range(N_ASKED))
