"""How often values occur, among what was kept and among what was rejected."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

N_BINS = 36


@dataclass
class Bar:
    """Values from low to high: how many of either side."""

    low: float
    high: float
    kept: int = 0
    dropped: int = 0


@dataclass
class Histogram:
    """N_BINS bars of one width. unit: of the values."""

    bars: list[Bar]
    unit: str

    @property
    def low(self) -> float:
        """Where the first bar begins."""
        return self.bars[0].low

    @property
    def high(self) -> float:
        """Where the last bar ends."""
        return self.bars[-1].high

    @property
    def most(self) -> int:
        """Values of the tallest bar."""
        return max(bar.kept + bar.dropped for bar in self.bars)


def histogram(kept: Sequence[float], dropped: Sequence[float], unit: str = "") -> Histogram | None:
    """The finite values of both sides in bars, outliers in the outermost ones; None where there are none."""
    kept, dropped = ([value for value in side if math.isfinite(value)] for side in (kept, dropped))
    if not (kept or dropped):
        return None
    low, high = _range([*kept, *dropped])
    edges = [low + (high - low) * i / N_BINS for i in range(N_BINS + 1)]
    bars = [Bar(*pair) for pair in pairwise(edges)]
    for value in kept:
        bars[_place(value, low, high)].kept += 1
    for value in dropped:
        bars[_place(value, low, high)].dropped += 1
    return Histogram(bars, unit)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the most, without the outermost half per cent of either side."""
    ordered = sorted(values)
    cut = len(ordered) // 200
    low, high = ordered[cut], ordered[-1 - cut]
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _place(value: float, low: float, high: float) -> int:
    return min(max(int((value - low) / (high - low) * N_BINS), 0), N_BINS - 1)
