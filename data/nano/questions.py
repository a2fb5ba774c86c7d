"""Questions about a match as it stands at one moment, with their answers in the words of the commentary.

They stand at the end of streaming samples, so that a model learns to answer in mid-stream, from what it is seeing.
"""

import numpy as np

from data.nano.commentator import ZONE_PHRASES, score_phrase
from data.nano.states import STATE_QUERY, describe_state, flank_of, third_of
from data.nano.world import Moment

# {z} third, {f} flank, {t} team with the ball, {s} score, {home} and {away} kits. The first wording is for people.
QUESTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "score": (("What is the score?", "What's the score now?", "Score?"), "It is {s}."),
    "ball": (("Who has the ball?", "Which team has the ball?"), "The {t} team."),
    "place": (("Where is the ball?", "Where are they playing?"), "It is {z}, {f}."),
    "teams": (("Who is playing?", "Which teams are playing?"), "It is {home} against {away}."),
}
N_ASKED = 3  # after each clip


def answer(kind: str, moment: Moment, kits: tuple[str, str]) -> str:
    """Answer a question of QUESTIONS, as things stand at `moment`."""
    return QUESTIONS[kind][1].format(
        s=score_phrase(moment.score),
        t=kits[moment.team],
        z=ZONE_PHRASES[third_of(moment)],
        f=ZONE_PHRASES[flank_of(moment)],
        home=kits[0],
        away=kits[1],
    )


def draw_questions(moment: Moment, kits: tuple[str, str], rng: np.random.Generator) -> list[tuple[str, str]]:
    """N_ASKED questions in a random order, with their answers; one is for the state of play, which says most."""
    asked = []
    chosen = rng.permutation(list(QUESTIONS))[: N_ASKED - 1]
    for kind in rng.permutation([*chosen, "state"]):
        if kind == "state":
            asked.append((STATE_QUERY, describe_state(moment, kits)))
        else:
            wordings = QUESTIONS[kind][0]
            asked.append((wordings[rng.integers(len(wordings))], answer(kind, moment, kits)))
    return asked
