"""Which sample comes next: an endless order that depends on four numbers only."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SampleOrder:
    """One process's share of an endless shuffle: pass after pass over all samples, dealt out to the ranks in
    turn.

    Place p of rank r is place p * world + r of the passes laid end to end, so the ranks together draw every
    sample once before any sample twice, and any place can be found again without replaying what came before.
    """

    n_samples: int
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.n_samples < 1 or not 0 <= self.rank < self.world:
            raise ValueError(f"{self}: needs at least one sample and 0 <= rank < world")

    def from_position(self, position: int) -> Iterator[int]:
        """Yield sample indices for ever, from this process's place `position` on."""
        place = position * self.world + self.rank
        while True:
            epoch, first = divmod(place, self.n_samples)
            mine = shuffled(self.n_samples, self.seed, epoch)[first :: self.world]
            yield from map(int, mine)
            place += len(mine) * self.world


def shuffled(n_samples: int, seed: int, epoch: int) -> np.ndarray:
    """Indices 0..n-1 in the order of one pass. 4 bytes a sample."""
    # RandomState's stream is frozen by numpy's compatibility policy, Generator's is not: a run that resumes
    # after an upgrade must find its order again.
    random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence([seed, epoch])))
    indices = np.arange(n_samples, dtype=np.int32 if n_samples < 2**31 else np.int64)
    random.shuffle(indices)
    return indices
