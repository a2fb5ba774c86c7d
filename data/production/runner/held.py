"""Records on their way from one link to the next: their lines, and themselves where they are at hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import xxhash

from data.production.record import Record, from_line


@dataclass
class Held:
    """Lines, a digest of each, and the records; None where they have not been read.

    numbers: words and seconds of each record, where they have been counted; in whole milliseconds, so that their sums
    are the same in any order.
    """

    lines: list[bytes]
    digests: list[bytes]
    records: list[Record] | None = None
    numbers: list[tuple[int, float]] | None = None

    @classmethod
    def of(cls, lines: Sequence[bytes], records: list[Record] | None = None) -> "Held":
        """Lines with their digests."""
        return cls(list(lines), [xxhash.xxh3_128_digest(line) for line in lines], records)

    def only(self, are_kept: list[bool]) -> "Held":
        """Those that are kept."""
        if all(are_kept):
            return self
        columns = (self.lines, self.digests, self.records, self.numbers)
        return Held(*(None if column is None else list(compress(column, are_kept)) for column in columns))

    def read(self) -> list[Record]:
        """The records."""
        if self.records is None:
            self.records = list(map(from_line, self.lines))
        return self.records

    def count(self) -> list[tuple[int, float]]:
        """The numbers."""
        if self.numbers is None:
            self.numbers = numbers_of(self.read())
        return self.numbers


def numbers_of(records: Sequence[Record]) -> list[tuple[int, float]]:
    """Words and seconds of each."""
    return [(record.n_words, round(record.seconds, 3)) for record in records]
