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


def transcript_of(words: Sequence[Timed]) -> Transcript:
    """Words as columns."""
    starts_s, ends_s, texts = zip(*words, strict=True) if words else ((), (), ())
    starts_ms, ends_ms = milliseconds(starts_s), milliseconds(ends_s)
    return Transcript(texts, starts_s, ends_s, starts_ms, ends_ms, is_sorted(starts_s))


def milliseconds(times_s: Sequence[float]) -> np.ndarray:
    """Times as whole milliseconds."""
    return np.rint(np.asarray(times_s, np.float64) * 1000).astype(np.int64)
