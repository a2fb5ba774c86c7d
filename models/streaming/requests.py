"""Requests of a stream to the model, and the batch that executes those of many streams at once.

A session is a generator that yields requests and is sent their replies, so it does not know whether it runs alone or
with a hundred others.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from data.samples.conversation import VisualBlock
from data.samples.families import Family, family_of
from data.samples.patches import cut_patches, visual_tokens
from data.video.frame_plan import FPS
from models.qwen2_vl import StreamingModel
from models.streaming.cache import KVCache, SlotAllocation
from models.streaming.decode_graphs import DecodeGraphs
from models.streaming.decoder import Decoder, StreamRows
from models.streaming.decoding import NO_TOKEN, TokenChoice, choose_tokens, not_finite
from models.streaming.slot_pool import POOL_SLOTS, SlotPool
from models.streaming.stream_state import StreamState
from models.vision import encode_patches
from utils.errors import UserError


@dataclass(frozen=True)
class VisionRequest:
    """Frames to encode, uint8 [T, 3, H, W], T even, `frame_s` seconds apart. Reply: their VisualBlock and features
    [n, hidden]."""

    frames: Tensor
    frame_s: float = 1 / FPS

    @property
    def n_tokens(self) -> int:
        """Visual tokens of the frames."""
        n_frames, _, height, width = self.frames.shape
        return visual_tokens(n_frames, height, width)


@dataclass(frozen=True)
class DecodeRequest:
    """New tokens of one stream, and how the next is chosen. Reply: the token chosen after the last of them."""

    state: StreamState
    ids: Sequence[int]
    choice: TokenChoice
    blocks: Sequence[VisualBlock] = ()
    features: Tensor | None = None
    end_s: float = 0.0

    @property
    def n_tokens(self) -> int:
        """New tokens."""
        return len(self.ids)


Request = VisionRequest | DecodeRequest
StreamTask = Generator[Request, Any, Any]  # a coroutine: yields requests, is sent their replies


@dataclass
class Batch:
    """Executes the requests of any number of streams together."""

    model: StreamingModel
    n_rows: int = 2  # on a GPU: caches that decode in one captured graph; a stream and the fork that answers
    n_slots: int = POOL_SLOTS
    decoder: Decoder = field(init=False)
    pool: SlotPool | None = field(init=False, default=None)
    graphs: DecodeGraphs | None = field(init=False, default=None)
    device: torch.device = field(init=False)
    unspeakable: Tensor = field(init=False)
    family: Family = field(init=False)

    def __post_init__(self):
        self.decoder = Decoder(self.model)
        self.device = self.model.device
        if self.device.type == "cuda":
            self.pool = SlotPool(self.model, self.n_rows, self.n_slots)
            self.graphs = DecodeGraphs(self.model, self.pool)
        config = self.model.config
        self.family = family_of(config)
        # A spoken pad would stand for frames that are not there.
        self.unspeakable = torch.tensor([config.image_token_id, config.video_token_id], device=self.device)

    def new_cache(self) -> KVCache:
        """Make an empty cache: a row of the pool while there is one and one is free."""
        return (self.pool and self.pool.take()) or KVCache.of(self.model)

    def fork(self, cache: KVCache) -> KVCache:
        """Copy a cache, into the pool where that has a free row."""
        row = self.pool.take() if self.pool and cache.row is not None else None
        return cache.fork() if row is None else row.copy_from(cache)

    def release(self, cache: KVCache) -> None:
        """Return a cache's row to the pool."""
        if self.pool is not None:
            self.pool.give_back(cache)

    @torch.inference_mode()
    def execute(self, requests: Sequence[Request]) -> list[Any]:
        """Execute requests, those of a kind as one batch; returns replies in order, UserError for one that failed."""
        vision = {i: request for i, request in enumerate(requests) if isinstance(request, VisionRequest)}
        decode = {i: request for i, request in enumerate(requests) if isinstance(request, DecodeRequest)}
        replies: dict[int, Any] = {}
        if vision:
            replies |= zip(vision, self._run_vision(list(vision.values())), strict=True)
        if decode:
            replies |= zip(decode, self._run_decoder(list(decode.values())), strict=True)
        return [replies[i] for i in range(len(requests))]

    def features(self, patches: Tensor, grids_thw: Tensor) -> Tensor:
        """Visual features [n, hidden] of patches uint8 [P, 1176] with grids int64 [N, 3]."""
        return encode_patches(self.model.model.visual, patches.to(self.device), grids_thw)

    def logits(self, ids: Tensor, features: Tensor | None, positions: Tensor, streams: Sequence[StreamRows]) -> Tensor:
        """Logits [B, V] after the last new token of each stream: ids [N], features [n, hidden], positions [3, N]."""
        hidden = self.decoder(self.model.embed(ids, features), positions, streams)
        last = torch.tensor([stream.stop - 1 for stream in streams], device=hidden.device)
        return self.model.lm_head(hidden[last])

    def _run_vision(self, requests: list[VisionRequest]) -> list[tuple[VisualBlock, Tensor]]:
        cut = [cut_patches(request.frames) for request in requests]
        patches = torch.cat([patches for patches, _ in cut]) if len(cut) > 1 else cut[0][0]
        grids = [grid_thw for _, grid_thw in cut]
        features = self.features(patches, torch.tensor(grids))
        steps = [self.family.time_step(request.frame_s) for request in requests]
        blocks = [VisualBlock("video", *of) for of in zip(grids, steps, strict=True)]
        return list(zip(blocks, features.split([block.n_tokens for block in blocks]), strict=True))

    def _run_decoder(self, requests: list[DecodeRequest]) -> list[int | UserError]:
        admitted: list[tuple[Tensor, Tensor, SlotAllocation]] = []
        streams: list[StreamRows] = []
        at = 0
        alone = all(request.n_tokens == 1 and request.state.cache.has_room for request in requests)
        graphs = self.graphs if alone else None
        for request in requests:
            admitted.append(request.state.admit(request.ids, request.blocks, request.end_s, masked=graphs is None))
            streams.append(StreamRows(request.state.cache, admitted[-1][2], at, at + len(request.ids)))
            at = streams[-1].stop
        ids = torch.cat([ids for ids, _, _ in admitted])
        positions = torch.cat([positions for _, positions, _ in admitted], dim=1)
        features = [request.features for request in requests if request.features is not None]
        if graphs is not None:
            logits = graphs(ids, positions, streams)
        else:
            logits = self.logits(ids, torch.cat(features) if features else None, positions, streams)
        logits[:, self.unspeakable] = -torch.inf
        counts = [request.state.counts for request in requests]
        tokens = choose_tokens(logits, counts, [request.choice for request in requests])
        return [not_finite() if token == NO_TOKEN else token for token in tokens]


def reply_to(request: Request, batch: Batch) -> Any:
    """The reply to a request that is executed alone. Raises UserError where it fails."""
    (reply,) = batch.execute([request])
    if isinstance(reply, UserError):
        raise reply
    return reply


def run_alone(task: StreamTask, batch: Batch) -> Any:
    """Run one coroutine to its end, its requests one at a time; returns what it returns."""
    reply = None
    while True:
        try:
            request = task.send(reply)
        except StopIteration as end:
            return end.value
        reply = reply_to(request, batch)
