"""Samples -> rows of at most so many tokens, without padding: best fit within a bounded look-ahead.

The rule depends only on the order of the samples and their lengths, so a row can be found again: the state is
the places of the samples that were drawn and not yet given out.
"""

from collections.abc import Callable

from data.samples.encoder import Example

LOOKAHEAD = 64  # samples that may be held
LOOKAHEAD_ROWS = 4  # and no more is drawn once the held ones fill so many rows

Draw = Callable[[], tuple[int, Example]]  # the next good sample, and its place in the order


class RowPacker:
    """Fills rows of at most `max_tokens` tokens and `max_samples` samples.

    A row starts with the sample drawn first, so none waits for ever; then comes, again and again, the longest of
    those held that still fits (of equals the one drawn first). At most `lookahead` samples are looked at, and
    LOOKAHEAD_ROWS rows' worth of tokens and one sample more are held. A sample over `max_tokens` has its own row.
    """

    def __init__(self, max_tokens: int, lookahead: int = LOOKAHEAD, max_samples: int | None = None) -> None:
        if max_tokens < 1 or lookahead < 1:
            raise ValueError(f"rows of {max_tokens} tokens from {lookahead} samples: both must be at least 1")
        self.max_tokens, self.lookahead, self.max_samples = max_tokens, lookahead, max_samples
        self.held: list[tuple[int, Example]] = []  # in the order of their places

    @property
    def places(self) -> list[int]:
        """Places of the samples held, in order."""
        return [place for place, _ in self.held]

    def next_row(self, draw: Draw) -> list[tuple[int, Example]]:
        """Take the next row out, drawing what it needs."""
        self._look_ahead(draw)
        row = [self.held.pop(0)]
        room = self.max_tokens - _length(row[0])
        while room > 0 and (self.max_samples is None or len(row) < self.max_samples):
            candidates = range(self._look_ahead(draw))
            best = max(candidates, key=lambda i: (_fit(self.held[i], room), -i), default=None)
            if best is None or _fit(self.held[best], room) < 0:
                break
            row.append(self.held.pop(best))
            room -= _length(row[-1])
        return row

    def put_back(self, samples: list[tuple[int, Example]]) -> None:
        """Hold samples again that were given out, as if they had not been."""
        self.held = sorted(self.held + samples, key=lambda held: held[0])

    def _look_ahead(self, draw: Draw) -> int:
        """Draw until enough is held; return how many of the held samples are looked at.

        What was put back may be more than would have been drawn by now: it stays out of sight.
        """
        n = n_tokens = 0
        while n < self.lookahead and n_tokens < LOOKAHEAD_ROWS * self.max_tokens:
            if n == len(self.held):
                self.held.append(draw())
            n_tokens += _length(self.held[n])
            n += 1
        return n


def _length(held: tuple[int, Example]) -> int:
    return len(held[1].input_ids)


def _fit(held: tuple[int, Example], room: int) -> int:
    """The sample's length where it fits, else -1."""
    length = _length(held)
    return length if length <= room else -1
