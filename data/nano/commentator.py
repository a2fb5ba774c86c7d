"""Commentator: every event of a match in one of several wordings, word by word with times.

A line starts a short reaction after its event can be seen, or when the line before it has ended. Fields of a wording:
{T} / {t} team colour with and without a capital, {z} zone phrase, {s} score, home goals first as on the board.
"""

from dataclasses import dataclass

import numpy as np

from data.nano.world import MatchEvent

NUMBERS = ("nil", "one", "two", "three", "four", "five")
ZONE_PHRASES = {
    "left": "out left",
    "middle": "in midfield",
    "right": "out right",
    "top": "top side",
    "bottom": "bottom side",
}
WORDINGS: dict[str, tuple[str, ...]] = {
    "kick-off": ("{T} kick off, {s}.", "Kick-off {t}, {s}.", "{T} start at {s}.", "{T} begin, {s}."),
    "pass": ("{T} pass {z}.", "{T} find a man {z}.", "{T} keep it {z}.", "{T} move it {z}.", "Good ball {t} {z}."),
    "interception": ("{T} cut it out {z}.", "{T} intercept {z}.", "{T} read that {z}.", "Picked off, {t} {z}."),
    "tackle": ("{T} tackle {z}.", "{T} win it {z}.", "{T} dig it out {z}.", "Strong challenge, {t} {z}."),
    "shot": ("{T} shoot {z}!", "{T} have a go {z}!", "{T} strike {z}!", "Shot by {t} {z}!"),
    "save": ("{T} keeper saves, {s}.", "Saved by {t}, {s}.", "{T} keeper holds it, {s}.", "Great save, {t}, {s}."),
    "goal": ("{T} score, {s}!", "Goal for {t}, {s}!", "It's in for {t}, {s}!", "{T} net it, {s}!"),
    "corner": ("{T} corner {z}.", "Corner to {t} {z}.", "{T} earn a corner {z}.", "A corner, {t} {z}."),
    "goal kick": (
        "{T} goal kick, {s}.",
        "Goal kick to {t}, {s}.",
        "Wide, goal kick {t}, {s}.",
        "{T} restart from goal, {s}.",
    ),
    "throw-in": ("{T} throw {z}.", "Throw-in to {t} {z}.", "{T} throw it {z}.", "Out, {t} throw {z}."),
}
# Only references of the test split use these: the parser must understand wordings that no model was trained on.
HELD_OUT_WORDINGS: dict[str, tuple[str, ...]] = {
    "kick-off": ("{T} get going, {s}.", "Under way, {t}, {s}."),
    "pass": ("{T} play it to feet {z}.", "Nice pass, {t} {z}."),
    "interception": ("{T} step in {z}.", "Stolen by {t} {z}."),
    "tackle": ("{T} slide in {z}.", "{T} take it off them {z}."),
    "shot": ("{T} let fly {z}!", "{T} fire at goal {z}!"),
    "save": ("Kept out by {t}, {s}.", "{T} keeper stops it, {s}."),
    "goal": ("{T} find the net, {s}!", "{T} put it in, {s}!"),
    "corner": ("{T} take a corner {z}.", "Corner kick, {t} {z}."),
    "goal kick": ("{T} take the goal kick, {s}.", "Off target, goal kick {t}, {s}."),
    "throw-in": ("{T} throw-in {z}.", "{T} get the throw {z}."),
}
SCORED_KINDS = frozenset(kind for kind, wordings in WORDINGS.items() if all("{s}" in w for w in wordings))
REACTION_S = (0.25, 0.40)
PAUSE_S = 0.10  # between two lines


@dataclass(frozen=True)
class SpokenLine:
    """A spoken event: its words with times in seconds from the window's start."""

    event: MatchEvent
    words: tuple[tuple[float, float, str], ...]

    @property
    def start_s(self) -> float:
        return self.words[0][0]

    @property
    def end_s(self) -> float:
        return self.words[-1][1]

    @property
    def text(self) -> str:
        return " ".join(word for _, _, word in self.words)


def score_phrase(score: tuple[int, int]) -> str:
    """(2, 1) -> "two one"; level scores end in "all", except "nil nil"."""
    home, away = score
    return f"{NUMBERS[home]} all" if home == away and home else f"{NUMBERS[home]} {NUMBERS[away]}"


def word_line(event: MatchEvent, kits: tuple[str, str], rng: np.random.Generator, held_out: bool) -> str:
    """Choose a wording for an event and fill it in."""
    choices = (HELD_OUT_WORDINGS if held_out else WORDINGS)[event.kind]
    colour = kits[event.team]
    zone = ZONE_PHRASES[event.zone] if event.zone else ""
    wording = choices[rng.integers(len(choices))]
    return wording.format(T=colour.capitalize(), t=colour, z=zone, s=score_phrase(event.score))


def narrate(
    events: list[MatchEvent], kits: tuple[str, str], rng: np.random.Generator, held_out: bool = False
) -> list[SpokenLine]:
    """Speak all events in order, at a pace drawn once (about 2.8 to 3.1 words a second)."""
    pace = rng.uniform(0.96, 1.06)
    free_s = float("-inf")
    lines = []
    for event in events:
        at = max(event.time_s + rng.uniform(*REACTION_S), free_s + PAUSE_S)
        words = []
        for word in word_line(event, kits, rng, held_out).split():
            end = at + pace * (0.20 + 0.03 * len(word))  # long words take longer; about 0.34 s
            words.append((round(at, 3), round(end, 3), word))
            at = end
        lines.append(SpokenLine(event, tuple(words)))
        free_s = at
    return lines
