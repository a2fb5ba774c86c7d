"""Predictor: the contract between the runner and the models that answer items."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from evaluation.scoring.protocol import Origin
from evaluation.tasks.item import Answer, Item


class Predictor(Protocol):
    """Answers items about one video at a time.

    settings: what of the model decides its answers (fingerprint of the weights, frame limits, decoding), for the store.
    own_parts: parts of a benchmark's protocol that it does its own way (scoring/protocol.py).
    """

    name: str
    settings: dict
    own_parts: dict[str, Origin]

    def answer(self, items: Sequence[Item]) -> Iterator[tuple[Item, Answer | Exception]]:
        """Yield each item of one video with its answer, or with what went wrong, in any order, as they come.

        An exception stands for a failed item; the others of the group go on.
        """
