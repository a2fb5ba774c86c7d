"""The state of play in a few words, second by second: dense supervision for a model that learns to see.

A state names who has the ball, what is going on and where, and the score, as they stand in the last frame of a step. It
uses the words of the commentary, so that what is learned here is used there.
"""

from data.nano.commentator import score_phrase
from data.nano.world import FLANKS, LENGTH_M, LINGER_S, WIDTH_M, ZONES, Moment

STATE_QUERY = "State of play?"
PHASES = (
    "dribble",
    "keeper",
    "flight",
    "shot",
    "out",
    "pass",
    "interception",
    "tackle",
    "save",
    "goal",
    "kick-off",
    "corner",
    "goal-kick",
    "throw-in",
)
STATE_WORDS = (*PHASES, *ZONES, *FLANKS, "goal", "kick", "off", "throw", "in")


def phase_of(moment: Moment) -> str:
    """The phase of PHASES that the picture shows."""
    if moment.phase == "placed":
        return moment.restart.replace("goal kick", "goal-kick")
    if moment.phase == "celebration":
        return "goal"
    if moment.phase == "out":
        return "out"
    if moment.phase == "flight":
        return "shot" if moment.trail.shot else "flight"
    mark, trail = moment.mark, moment.trail
    if mark is not None and moment.time_s - mark.time_s < LINGER_S:
        return mark.kind
    if trail is not None and not trail.shot:
        return "pass" if trail.team == moment.team else "interception"
    return "keeper" if moment.carrier == 0 else "dribble"


def third_of(moment: Moment) -> str:
    """The third of the picture that the ball is in."""
    return ZONES[min(max(int(moment.ball[0] / (LENGTH_M / 3)), 0), 2)]


def flank_of(moment: Moment) -> str:
    """The half of the picture that the ball is in: top or bottom."""
    return FLANKS[int(moment.ball[1] > WIDTH_M / 2)]


def describe_state(moment: Moment, kits: tuple[str, str]) -> str:
    """Say the state of play, such as "red pass left top red blue two one": team, phase, third, flank, both kits, score.

    The team comes first, as in the commentary: after the kits it could be learned as a choice between two names.
    """
    place = f"{third_of(moment)} {flank_of(moment)}"
    return f"{kits[moment.team]} {phase_of(moment)} {place} {kits[0]} {kits[1]} {score_phrase(moment.score)}"
