"""A batch that writes down what it is asked: the tokens fed to a session, and the logits to choose the next from."""

from collections.abc import Callable

import torch
from torch import Tensor

from models.load import Checkpoint
from models.streaming.decode_graphs import DecodeGraphs
from models.streaming.options import StreamOptions
from models.streaming.requests import Batch
from models.streaming.session import StreamingSession
from models.streaming.slot_pool import SlotPool


class Recorder(Batch):
    """fed: the ids of all calls, one after the other; calls: their logits [B, V]; n_in_graph: calls that a graph made.

    say: replaces the choice of tokens. graph: whether single tokens are decoded over the rows of a pool, which is
    captured on a GPU and runs uncaptured elsewhere; n_slots: of each of its four rows.
    """

    def __init__(self, model, say: Callable[[], int] | None = None, graph: bool = False, n_slots: int = 512):
        super().__init__(model, n_rows=4, n_slots=n_slots)
        self.fed, self.at, self.calls, self.say, self.n_in_graph = [], [], [], say, 0
        self.pool = (self.pool or SlotPool(model, self.n_rows, n_slots)) if graph else None
        self.decode = (self.graphs or DecodeGraphs(model, self.pool)) if graph else None
        self.graphs = self._in_graph if graph else None

    def logits(self, ids, features, positions, streams):
        return self._note(ids, super().logits(ids, features, positions, streams))

    def execute(self, requests):
        replies = super().execute(requests)
        return [self.say() if self.say and isinstance(reply, int) else reply for reply in replies]

    @property
    def rows(self) -> list[tuple[int, Tensor]]:
        """Of one stream: the index in `fed` of each call's last token, and the logits [V] after it."""
        return [(at, logits[0]) for at, logits in zip(self.at, self.calls, strict=True)]

    def _in_graph(self, ids, positions, streams):
        self.n_in_graph += 1
        return self._note(ids, self.decode(ids, positions, streams))

    def _note(self, ids: Tensor, logits: Tensor) -> Tensor:
        self.fed += ids.tolist()
        self.at.append(len(self.fed) - 1)
        self.calls.append(logits.float().cpu().clone())  # the caller goes on writing to its own
        return logits


def record(
    checkpoint: Checkpoint, options: StreamOptions, say: Callable[[], int] | None = None, graph: bool = False
) -> tuple[StreamingSession, Recorder]:
    """A session and the recorder that answers it."""
    recorder = Recorder(checkpoint.model, say, graph)
    return StreamingSession(checkpoint, options, recorder), recorder


def difference(first: list[Tensor], second: list[Tensor]) -> tuple[float, float]:
    """The largest difference between two lists of logits, call by call: in the nearest call, and in the farthest."""
    each = [float((a - b).abs().max()) for a, b in zip(first, second, strict=True)]
    return min(each), max(each)


def spread(rows: Tensor) -> float:
    """How far apart the two most similar of several logits [N, V] are: no constants where this is large."""
    apart = (rows[:, None] - rows).abs().amax(-1)
    return float(apart[~torch.eye(len(rows), dtype=torch.bool)].min())
