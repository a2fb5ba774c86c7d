"""The loss of each annotation file since it was last logged, over its supervised tokens on all ranks."""

from collections.abc import Callable, Sequence

import torch


class SourceLoss:
    """Adds up the token losses of each source. Nothing waits for the device until they are asked for.

    names: of the sources, as the log shows them.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        self._seen: list[tuple[int, int]] = []  # source and supervised tokens of each sample
        self._sums: list[torch.Tensor] = []

    def add(self, sources: Sequence[int], supervised: Sequence[int], sums_S: torch.Tensor) -> None:
        """Count S samples: their sources, their supervised tokens, and the sums of their token losses."""
        self._seen += zip(sources, supervised, strict=True)
        self._sums.append(sums_S)

    def drain(self, sum_over_ranks: Callable[[list[float]], Sequence[float]]) -> dict[str, float]:
        """Mean loss as loss/NAME of each source seen since the last call, which is then forgotten.

        Every rank must call.
        """
        totals = [0.0] * (2 * len(self.names))
        sums = torch.cat(self._sums).tolist() if self._sums else []
        for (source, count), loss in zip(self._seen, sums, strict=True):
            totals[2 * source] += loss
            totals[2 * source + 1] += count
        self._seen, self._sums = [], []
        summed = sum_over_ranks(totals)
        losses = zip(self.names, summed[::2], summed[1::2], strict=True)
        return {f"loss/{name}": loss / count for name, loss, count in losses if count}
