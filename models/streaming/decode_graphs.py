"""One token of many streams as one captured CUDA graph: a decode step of static shapes over the rows of a pool.

Launching some 700 small kernels one by one takes longer than they run; a graph launches them at once. Elsewhere the
same computation runs uncaptured, which is how it is tested.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from models.qwen2_vl import StreamingModel
from models.streaming.decoder import StreamRows
from models.streaming.rotary import Rotary, rotate
from models.streaming.slot_pool import SlotPool

WARM_UPS = 3  # before a capture, as torch.cuda.graph asks for


class DecodeGraphs:
    """Decodes one token for any of the first n rows of a pool, n a power of two; a graph for each n, when needed."""

    def __init__(self, model: StreamingModel, pool: SlotPool):
        self.model, self.pool = model, pool
        self.language_model = model.model.language_model
        self.rotary = Rotary(self.language_model)
        n_rows, device = pool.live.shape[0], model.device
        self.ids = torch.zeros(n_rows, dtype=torch.long, device=device)
        self.positions = torch.zeros((3, n_rows), dtype=torch.long, device=device)
        self.slots = torch.full((n_rows,), pool.scratch, dtype=torch.long, device=device)
        self.graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}

    def __call__(self, ids: Tensor, positions: Tensor, streams: Sequence[StreamRows]) -> Tensor:
        """Logits [B, V] after one token of each stream, ids [B] at positions [3, B]; all caches are in the pool."""
        numbers = cast(list[int], [stream.cache.row for stream in streams])
        rows = torch.tensor(numbers, device=ids.device)
        slots = torch.tensor([int(stream.allocation.slots[0]) for stream in streams], device=ids.device)
        self.slots.fill_(self.pool.scratch)  # rows without a token write there, and nobody reads it
        self.ids[rows], self.positions[:, rows], self.slots[rows] = ids, positions, slots
        n = min(1 << max(numbers).bit_length(), self.pool.live.shape[0])
        return self._run(n)[rows]

    def _run(self, n: int) -> Tensor:
        if self.model.device.type != "cuda":
            return self._logits(n)
        if n not in self.graphs:
            self.graphs[n] = self._capture(n)
        graph, logits = self.graphs[n]
        graph.replay()
        return logits

    def _capture(self, n: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        kept = self.slots.clone()
        self.slots.fill_(self.pool.scratch)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                self._logits(n)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = self._logits(n)
        self.slots.copy_(kept)
        return graph, logits

    def _logits(self, n: int) -> Tensor:
        """Logits [n, V] of the first n rows; nothing in it depends on what the rows hold."""
        pool, slots = self.pool, self.slots[:n]
        row, slot = torch.arange(n, device=slots.device), torch.arange(pool.live.shape[1], device=slots.device)
        hidden = self.model.get_input_embeddings()(self.ids[:n])
        cos, sin = (part[:, None] for part in self.rotary(self.positions[:, :n], hidden.dtype))
        # A row without a token sees its own scratch slot: a softmax over nothing would be NaN.
        seen = pool.live[:n] | (slot == slots[:, None])
        bias = torch.zeros_like(seen, dtype=hidden.dtype).masked_fill(~seen, -torch.inf)[:, None, None]
        for number, layer in enumerate(self.language_model.layers):
            attention = layer.self_attn
            normed = layer.input_layernorm(hidden)
            heads = (n, -1, attention.head_dim)
            query = rotate(attention.q_proj(normed).view(heads), cos, sin)
            keys, values = pool.keys[number, :n], pool.values[number, :n]
            keys[row, :, slots] = rotate(attention.k_proj(normed).view(heads), cos, sin)
            values[row, :, slots] = attention.v_proj(normed).view(heads)
            grouped = query.view(n, keys.shape[1], -1, attention.head_dim)
            attended = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=bias)
            hidden = hidden + attention.o_proj(attended.reshape(n, -1))
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.model.lm_head(self.language_model.norm(hidden))
