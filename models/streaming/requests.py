"""What a stream asks of the model, and the batch that answers many streams at once.

A session is a generator that yields requests and is sent their replies, so it does not know whether it runs alone or
with a hundred others.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from data.samples.conversation import VisualBlock
from data.samples.patches import cut_patches
from models.qwen2_vl import StreamingQwen2VL
from models.streaming.cache import KVCache
from models.streaming.context import Context
from models.streaming.decode_graphs import DecodeGraphs
from models.streaming.decoder import Decoder, Run
from models.streaming.decoding import Choice, choose_tokens
from models.streaming.slot_pool import POOL_SLOTS, SlotPool
from models.vision import encode_patches


@dataclass(frozen=True)
class Encode:
    """Frames to look at, uint8 [T, 3, H, W], T even. Reply: their VisualBlock and features [n, hidden]."""

    frames: Tensor


@dataclass(frozen=True)
class Feed:
    """New tokens of one stream. Reply: the token chosen after the last of them."""

    context: Context
    ids: Sequence[int]
    choice: Choice
    blocks: Sequence[VisualBlock] = ()
    features: Tensor | None = None
    end_s: float = 0.0


Request = Encode | Feed
Task = Generator[Request, Any, Any]


@dataclass
class Batch:
    """Answers requests, all that there are at a time."""

    model: StreamingQwen2VL
    n_rows: int = 2  # on a GPU: caches that decode in one captured graph; a stream and the fork that answers
    n_slots: int = POOL_SLOTS
    decoder: Decoder = field(init=False)
    pool: SlotPool | None = field(init=False, default=None)
    graphs: DecodeGraphs | None = field(init=False, default=None)
    device: torch.device = field(init=False)
    unspeakable: Tensor = field(init=False)

    def __post_init__(self):
        self.decoder = Decoder(self.model)
        self.device = self.model.device
        if self.device.type == "cuda":
            self.pool = SlotPool(self.model, self.n_rows, self.n_slots)
            self.graphs = DecodeGraphs(self.model, self.pool)
        config = self.model.config
        # A spoken pad would stand for frames that are not there.
        self.unspeakable = torch.tensor([config.image_token_id, config.video_token_id], device=self.device)

    def new_cache(self) -> KVCache:
        """An empty cache: a row of the pool while there is one and one is free."""
        return (self.pool and self.pool.take()) or KVCache.of(self.model)

    def fork(self, cache: KVCache) -> KVCache:
        """A copy of a cache, in the pool where it can be."""
        row = self.pool.take() if self.pool and cache.row is not None else None
        return cache.fork() if row is None else row.copy_from(cache)

    def release(self, cache: KVCache) -> None:
        """Give a cache's row back to the pool."""
        if self.pool is not None and cache.lease is not None:
            self.pool.give_back(cache)

    @torch.inference_mode()
    def answer(self, requests: Sequence[Request]) -> list[Any]:
        """Replies in the order of the requests."""
        replies: list[Any] = [None] * len(requests)
        for kind, answers in ((Encode, self._encode), (Feed, self._feed)):
            at = [i for i, request in enumerate(requests) if isinstance(request, kind)]
            if at:
                for i, reply in zip(at, answers([requests[i] for i in at]), strict=True):
                    replies[i] = reply
        return replies

    def features(self, patches: Tensor, grids_thw: Tensor) -> Tensor:
        """Visual features [n, hidden] of patches uint8 [P, 1176] with grids int64 [N, 3]."""
        return encode_patches(self.model.model.visual, patches.to(self.device), grids_thw)

    def logits(self, ids: Tensor, features: Tensor | None, positions: Tensor, runs: Sequence[Run]) -> Tensor:
        """Logits [B, V] after the last new token of each run: ids [N], features [n, hidden], positions [3, N]."""
        hidden = self.decoder(self.model.embed(ids, features), positions, runs)
        last = torch.tensor([run.stop - 1 for run in runs], device=hidden.device)
        return self.model.lm_head(hidden[last])

    def _encode(self, requests: list[Encode]) -> list[tuple[VisualBlock, Tensor]]:
        cut = [cut_patches(request.frames) for request in requests]
        patches = torch.cat([patches for patches, _ in cut]) if len(cut) > 1 else cut[0][0]
        grids = [grid_thw for _, grid_thw in cut]
        features = self.features(patches, torch.tensor(grids))
        blocks = [VisualBlock("video", grid_thw) for grid_thw in grids]
        return list(zip(blocks, features.split([block.n_tokens for block in blocks]), strict=True))

    def _feed(self, requests: list[Feed]) -> list[int]:
        admitted, runs, at = [], [], 0
        in_graph = self.graphs is not None and all(
            len(request.ids) == 1 and request.context.cache.has_room for request in requests
        )
        for request in requests:
            admitted.append(request.context.admit(request.ids, request.blocks, request.end_s, masked=not in_graph))
            runs.append(Run(request.context.cache, admitted[-1][2], at, at + len(request.ids)))
            at = runs[-1].stop
        ids = torch.cat([ids for ids, _, _ in admitted])
        positions = torch.cat([positions for _, positions, _ in admitted], dim=1)
        features = [request.features for request in requests if request.features is not None]
        if in_graph:
            logits = self.graphs(ids, positions, runs)
        else:
            logits = self.logits(ids, torch.cat(features) if features else None, positions, runs)
        logits[:, self.unspeakable] = -torch.inf
        counts = [request.context.counts for request in requests]
        return choose_tokens(logits, counts, [request.choice for request in requests])


def run(task: Task, batch: Batch) -> Any:
    """Run one task to its end, alone; returns what it returns."""
    reply = None
    while True:
        try:
            request = task.send(reply)
        except StopIteration as end:
            return end.value
        (reply,) = batch.answer([request])
