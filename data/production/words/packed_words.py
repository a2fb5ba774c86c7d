"""Words with times as the JSON that they are written as, and as lists only for who looks at them.

A clip's words are made once and written three times: as the cutting leaves them, in the training sample, and in the
training file. Kept as bytes they are serialised once, and take a tenth of the memory.
"""

from collections.abc import Iterator, Sequence
from operator import le
from typing import Any

import orjson

# [start_s, end_s, text], as JSON has it: a million clips hold 150 million of them. Reading gives lists, writing takes
# tuples (data.samples.words.Word too). Seconds of the video's own clock, in the order of their start.
Timed = list | tuple


class PackedWords(Sequence):
    """A sequence of [start_s, end_s, text] that cannot be changed; list(words) makes one that can.

    in_order: whether no word starts before the one ahead of it.
    """

    __slots__ = ("_n", "_words", "in_order", "json")

    def __init__(self, words: list[Timed], in_order: bool):
        self.json, self.in_order = orjson.dumps(words), in_order
        self._n, self._words = len(words), None

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, place: int | slice) -> Any:
        return self._unpacked()[place]

    def __iter__(self) -> Iterator[list]:
        return iter(self._unpacked())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._unpacked() == list(other)

    def __repr__(self) -> str:
        return f"PackedWords({self.json.decode()})"

    __hash__ = None

    def _unpacked(self) -> list[list]:
        if self._words is None:
            self._words = orjson.loads(self.json)
        return self._words


def in_order(words: Sequence[Timed]) -> bool:
    """Whether no word starts before the one ahead of it."""
    if isinstance(words, PackedWords):
        return words.in_order
    return is_sorted([word[0] for word in words])


def is_sorted(times_s: Sequence[float]) -> bool:
    """Whether no time is before the one ahead of it."""
    return all(map(le, times_s, times_s[1:]))


def as_json(value: Any) -> orjson.Fragment:
    """What orjson writes for packed words; to be given as its `default`."""
    if isinstance(value, PackedWords):
        return orjson.Fragment(value.json)
    raise TypeError(f"{type(value).__name__} is not JSON")
