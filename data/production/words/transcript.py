"""The words of one video as columns, from which clips are cut."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.production.words.packed_words import PackedWords, Timed, is_sorted


@dataclass(slots=True)
class Transcript:
    """Texts of the words, their starts and ends in seconds, and the same in whole milliseconds [N], for comparing: a
    gap of 3 s is one of 3 s then, whatever its floating-point difference."""

    texts: Sequence[str]
    starts_s: Sequence[float]
    ends_s: Sequence[float]
    starts_ms: np.ndarray
    ends_ms: np.ndarray
    in_order: bool = True  # no word starts before the one ahead of it

    def __len__(self) -> int:
        return len(self.texts)

    def words(self, start: int, stop: int) -> PackedWords:
        """Words [start, stop)."""
        starts_s = self.starts_s[start:stop]
        words = list(zip(starts_s, self.ends_s[start:stop], self.texts[start:stop], strict=True))
        return PackedWords(words, self.in_order or is_sorted(starts_s))

    def split_at(self, end_s: float | None) -> tuple["Transcript", "Transcript"]:
        """The words up to the last one that starts before a time, ending there at the latest; and those behind it."""
        end_ms = None if end_s is None else int(end_s * 1000 + 1e-3)
        if end_ms is None or max(self.starts_ms.max(initial=-1) + 1, self.ends_ms.max(initial=0)) <= end_ms:
            return self, self._between(len(self), len(self))
        before = np.flatnonzero(self.starts_ms < end_ms)
        n = int(before[-1]) + 1 if len(before) else 0
        seen, behind = self._between(0, n), self._between(n, len(self))
        seen.ends_s = [min(end, end_ms / 1000) for end in seen.ends_s]
        seen.ends_ms = np.minimum(seen.ends_ms, end_ms)
        return seen, behind

    def _between(self, start: int, stop: int) -> "Transcript":
        columns = (self.texts, self.starts_s, self.ends_s, self.starts_ms, self.ends_ms)
        return Transcript(*(column[start:stop] for column in columns), self.in_order)


def transcript_of(words: Sequence[Timed]) -> Transcript:
    """Words as columns."""
    starts_s, ends_s, texts = zip(*words, strict=True) if words else ((), (), ())
    starts_ms, ends_ms = milliseconds(starts_s), milliseconds(ends_s)
    return Transcript(texts, starts_s, ends_s, starts_ms, ends_ms, is_sorted(starts_s))


def milliseconds(times_s: Sequence[float]) -> np.ndarray:
    """Times as whole milliseconds."""
    return np.rint(np.asarray(times_s, np.float64) * 1000).astype(np.int64)
