"""Which sample comes next when each annotation file has a share of the mix: found again from a place, like
SampleOrder."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data.loading.order import SampleOrder
from utils.errors import UserError

BLOCK = 1000  # places that hold every file's share exactly, in shuffled order; the finest share is 1 / BLOCK
PASS, PATTERN = (
    1,
    2,
)  # what a seed sequence is for; data/loading/order.py seeds its passes with two numbers, here are more
KEPT_PASSES = 32  # shuffles kept: 4 bytes a sample of a file


@dataclass(frozen=True)
class MixedOrder:
    """One process's share of an endless mix of several files.

    sizes: samples of each file, which lie one after the other; weights: the files' shares of what is drawn,
    relative to their sum. Every BLOCK places of the ranks together hold each file's share exactly, and each
    file is drawn in passes of its own, every sample once before any twice. Place p of rank r is place
    p * world + r. Raises ValueError for impossible numbers.
    """

    sizes: tuple[int, ...]
    weights: tuple[float, ...]
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        # Lists come from a checkpoint's JSON.
        object.__setattr__(self, "sizes", tuple(self.sizes))
        object.__setattr__(self, "weights", tuple(float(weight) for weight in self.weights))
        if not self.sizes or len(self.sizes) != len(self.weights) or min(self.sizes) < 1 or min(self.weights) <= 0:
            raise ValueError(f"{self}: needs samples in every file, and a weight above 0 for each")
        if not 0 <= self.rank < self.world:
            raise ValueError(f"{self}: needs 0 <= rank < world")

    @property
    def n_samples(self) -> int:
        """Samples of all files: as many draws are an epoch, whichever files they come from."""
        return sum(self.sizes)

    @functools.cached_property
    def shares(self) -> list[int]:
        """Places of each file in a block, by largest remainders; a file that has a weight has a place."""
        exact = np.array(self.weights) / sum(self.weights) * BLOCK
        whole = np.maximum(np.floor(exact).astype(int), 1)
        # Stable, so that equal remainders are served in the order of the files.
        for k in np.argsort(whole - exact, kind="stable")[: max(0, BLOCK - whole.sum())]:
            whole[k] += 1
        whole[int(np.argmax(whole))] -= whole.sum() - BLOCK  # places given to files below 1 / BLOCK
        return whole.tolist()

    def from_position(self, position: int) -> Iterator[int]:
        """Yield sample indices for ever, from this process's place `position` on."""
        place = position * self.world + self.rank
        while True:
            number, first = divmod(place, BLOCK)
            mine = self._block(number)[first :: self.world]
            yield from map(int, mine)
            place += len(mine) * self.world

    def _block(self, number: int) -> np.ndarray:
        """Sample indices of one block of places, int64 [BLOCK]."""
        files = np.repeat(np.arange(len(self.sizes)), self.shares)
        _random(self.seed, PATTERN, number).shuffle(files)
        drawn, start = np.empty(BLOCK, np.int64), 0
        for k, (size, share) in enumerate(zip(self.sizes, self.shares, strict=True)):
            turns = np.arange(number * share, (number + 1) * share)  # the file's own places
            drawn[files == k] = start + self._draw(k, size, turns)
            start += size
        return drawn

    def _draw(self, k: int, size: int, turns: np.ndarray) -> np.ndarray:
        passes, inside = np.divmod(turns, size)
        drawn = np.empty(len(turns), np.int64)
        for number in np.unique(passes):
            now = passes == number
            drawn[now] = _shuffled_file(size, self.seed, k, int(number))[inside[now]]
        return drawn


def make_order(
    sizes: Sequence[int], weights: Sequence[float] | None, seed: int, rank: int, world: int
) -> SampleOrder | MixedOrder:
    """The order over files of these sizes: one shuffle of all samples, or with weights a mix.

    Raises UserError for weights that do not fit the files.
    """
    if not weights:
        return SampleOrder(sum(sizes), seed, rank, world)
    if len(weights) != len(sizes):
        raise UserError(
            f"--annotation_weights has {len(weights)} numbers for {len(sizes)} annotation files; give one for each, "
            "in the order of --annotation_paths"
        )
    least = sum(weights) / BLOCK
    if not all(least <= weight < float("inf") for weight in weights):  # nan compares false
        raise UserError(
            f"--annotation_weights {' '.join(f'{weight:g}' for weight in weights)}: each must be a number of at "
            f"least a {BLOCK}th of their sum ({least:g}); leave a file out of --annotation_paths to give it no share"
        )
    return MixedOrder(tuple(sizes), tuple(weights), seed, rank, world)


@functools.lru_cache(maxsize=KEPT_PASSES)
def _shuffled_file(size: int, seed: int, k: int, number: int) -> np.ndarray:
    """Places 0..size-1 of file k in the order of its pass `number`."""
    indices = np.arange(size, dtype=np.int32 if size < 2**31 else np.int64)
    _random(seed, PASS, k, number).shuffle(indices)
    return indices


def _random(*entropy: int) -> np.random.RandomState:
    # RandomState's stream is frozen by numpy's compatibility policy (data/loading/order.py).
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(entropy)))
