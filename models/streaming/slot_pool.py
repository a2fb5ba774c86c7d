"""Pool of KV caches: those of many streams in one tensor, so that all of them decode in one operation."""

import threading

import torch

from models.qwen2_vl import StreamingModel
from models.streaming.cache import KVCache

POOL_SLOTS = 8704  # a window of 16 s at 384 visual tokens a step, sinks, text, and an answer


class SlotPool:
    """R rows of C slots: keys, values [L, R, K, C, D], live bool [R, C]. A row's last slot is nobody's: `scratch`."""

    def __init__(self, model: StreamingModel, n_rows: int, n_slots: int):
        text = model.config.get_text_config()
        head_dim = text.hidden_size // text.num_attention_heads
        shape = (text.num_hidden_layers, n_rows, text.num_key_value_heads, n_slots, head_dim)
        self.keys = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self.values = torch.zeros_like(self.keys)
        self.live = torch.zeros((n_rows, n_slots), dtype=torch.bool, device=model.device)
        self.scratch = n_slots - 1
        self.lock = threading.Lock()
        self.free = list(range(n_rows))[::-1]  # the lowest first: a batch spans the rows up to the highest in use

    def take(self) -> KVCache | None:
        """Take a free row as an empty cache; None where there is none."""
        with self.lock:
            if not self.free:
                return None
            row = self.free.pop()
        self.live[row] = False
        used = slice(0, self.scratch)
        return KVCache(self.keys[:, row, :, used], self.values[:, row, :, used], self.live[row, used], row)

    def give_back(self, cache: KVCache) -> None:
        """Take back the row of a cache that is not used any more, if it has one."""
        if cache.pool_row is None:
            return
        with self.lock:
            self.free = sorted([*self.free, cache.pool_row], reverse=True)
        cache.row = cache.pool_row = None
