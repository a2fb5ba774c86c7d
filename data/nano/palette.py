"""Kit and pitch colours, and which of them each split may use."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from utils.errors import UserError

# RGB. Far apart in hue or in brightness, so that a name can be read off a disc of 14 pixels after chroma subsampling.
KITS: dict[str, tuple[int, int, int]] = {
    "red": (215, 25, 25),
    "blue": (25, 45, 215),
    "yellow": (250, 235, 30),
    "white": (250, 250, 250),
    "black": (12, 12, 12),
    "orange": (255, 135, 0),
    "pink": (255, 145, 215),
    "cyan": (20, 225, 235),
}
SPLITS = ("train", "tune", "test")
# Pitches are given by hue (degrees) and saturation; brightness varies within a match.
PITCHES: dict[str, tuple[tuple[float, float], ...]] = {
    "train": ((95, 0.50), (110, 0.42), (125, 0.50), (140, 0.38), (80, 0.38), (60, 0.25), (30, 0.28), (150, 0.30)),
    "tune": ((103, 0.46), (45, 0.26), (132, 0.30)),
    "test": ((118, 0.55), (88, 0.44), (70, 0.32), (145, 0.44), (38, 0.22)),
}


def kit_pairs(split: str) -> list[tuple[str, str]]:
    """Kit pairs of a split: no pair is in two splits, and every colour is in each of them.

    The 28 pairs form 7 rounds of 4 disjoint pairs (the circle method for a tournament of 8), so each round uses
    every colour once: 5 rounds train, 1 tunes, 1 tests. The order is one that gives each of the last two one pair of
    similar colours (red-orange, red-pink), for a model that saw none could not learn to tell them apart.
    """
    if split not in SPLITS:
        raise UserError(f"split {split!r}: choose one of {', '.join(SPLITS)}")
    names = ("red", "blue", "yellow", "black", "white", "orange", "pink", "cyan")
    rounds = []
    for turn in range(len(names) - 1):
        circle = (names[0], *names[1 + turn :], *names[1 : 1 + turn])
        rounds.append([(circle[i], circle[-1 - i]) for i in range(len(names) // 2)])
    chosen = {"train": rounds[:5], "tune": rounds[5:6], "test": rounds[6:]}[split]
    assert len({frozenset(p) for r in rounds for p in r}) == len(list(combinations(names, 2)))
    return [pair for pairs in chosen for pair in pairs]


@dataclass(frozen=True)
class Look:
    """How one match looks: kits (home, away) by name, and the pitch's RGB as floats in 0..255."""

    kits: tuple[str, str]
    pitch_rgb: tuple[float, float, float]
    noise: float  # standard deviation of the sensor noise, grey levels
    jitter: float  # camera shake, metres


def hsv_to_rgb(hue: float, saturation: float, value: float) -> tuple[float, float, float]:
    """Hue in degrees, saturation in 0..1, value in 0..255 -> RGB in 0..255."""
    k = (np.array([5.0, 3.0, 1.0]) + hue / 60.0) % 6.0
    rgb = value - value * saturation * np.clip(np.minimum(k, 4.0 - k), 0.0, 1.0)
    return tuple(float(c) for c in rgb)


def draw_look(rng: np.random.Generator, split: str) -> Look:
    """Choose kits, pitch, noise and camera shake of one match."""
    pairs = kit_pairs(split)
    home, away = pairs[rng.integers(len(pairs))]
    if rng.random() < 0.5:
        home, away = away, home
    hue, saturation = PITCHES[split][rng.integers(len(PITCHES[split]))]
    pitch = hsv_to_rgb(hue + rng.uniform(-3, 3), saturation, rng.uniform(115, 145))
    return Look((home, away), pitch, noise=float(rng.uniform(1, 4)), jitter=float(rng.uniform(0.1, 0.6)))
