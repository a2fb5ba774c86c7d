"""A camera high above the pitch that shakes and zooms a little: metres -> pixels."""

from dataclasses import dataclass

import numpy as np

from data.nano.world import LENGTH_M, WIDTH_M

# The picture is 140 x 84 units whatever its size in pixels: a strip of 14 for the scoreboard, then the pitch at 3 units
# a metre with a margin of 10 at the sides and 5 above and below. 28 units are one visual token for the nano model.
UNITS_WH = (140.0, 84.0)
UNITS_PER_M = 3.0
CENTRE_UNITS = (70.0, 49.0)
BOARD_UNITS = 14.0


@dataclass(frozen=True)
class Shot:
    """The camera's view at one time: units = zoom * UNITS_PER_M * (metres - centre of pitch) + CENTRE + shift."""

    zoom: float
    shift: tuple[float, float]  # units
    scale: float  # pixels per unit

    def pixels(self, points_m) -> np.ndarray:
        """[..., 2] metres -> [..., 2] pixels."""
        offset = (np.asarray(points_m, dtype=float) - [LENGTH_M / 2, WIDTH_M / 2]) * (UNITS_PER_M * self.zoom)
        return (offset + np.array(CENTRE_UNITS) + np.array(self.shift)) * self.scale

    def length(self, units: float) -> float:
        return units * self.scale


class Camera:
    """Smooth random shake: two sines per axis and one for the zoom, drawn once per match."""

    def __init__(self, rng: np.random.Generator, jitter_m: float, size_hw: tuple[int, int]):
        self.amplitude = jitter_m * UNITS_PER_M
        self.rates = rng.uniform(0.5, 3.0, size=(2, 2))
        self.phases = rng.uniform(0, 2 * np.pi, size=(2, 2))
        self.zoom = float(rng.uniform(0.97, 1.02))
        self.scale = size_hw[1] / UNITS_WH[0]

    def at(self, time_s: float) -> Shot:
        shift = self.amplitude * 0.5 * np.sin(self.rates * time_s + self.phases).sum(axis=1)
        return Shot(self.zoom, (float(shift[0]), float(shift[1])), self.scale)
