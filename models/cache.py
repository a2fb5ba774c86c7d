"""The KV cache of one stream: `full` keeps every token, in storage that grows by doubling."""

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

FIRST_CAPACITY = 1024  # tokens


class GrowingLayer(DynamicLayer):
    """Keys and values [1, heads, T, D] as a view of a larger store, so that a new token copies only itself."""

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Append the new tokens' keys and values and return all of them."""
        if not self.is_initialized:
            self.dtype, self.device = key_states.dtype, key_states.device
            self.key_store = self.value_store = key_states[..., :0, :]
            self.keys = self.values = self.key_store
            self.is_initialized = True
        start, end = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if end > self.key_store.shape[-2]:
            self.key_store = _grown(self.keys, end)
            self.value_store = _grown(self.values, end)
        self.key_store[..., start:end, :] = key_states
        self.value_store[..., start:end, :] = value_states
        self.keys, self.values = self.key_store[..., :end, :], self.value_store[..., :end, :]
        return self.keys, self.values

    def fork(self) -> "GrowingLayer":
        """A layer with the same tokens and storage of its own."""
        other = GrowingLayer()
        if self.is_initialized:
            other.update(self.keys, self.values)
        return other


class FullCache(Cache):
    """Every token of one stream, one growing layer per model layer."""

    def __init__(self, n_layers: int):
        super().__init__(layers=[GrowingLayer() for _ in range(n_layers)])

    def fork(self) -> "FullCache":
        """A cache with the same tokens that shares nothing with this one."""
        other = FullCache(0)
        other.layers = [layer.fork() for layer in self.layers]
        return other


def _grown(kept: Tensor, n_tokens: int) -> Tensor:
    capacity = max(FIRST_CAPACITY, 1 << (n_tokens - 1).bit_length())
    store = kept.new_empty((*kept.shape[:-2], capacity, kept.shape[-1]))
    store[..., : kept.shape[-2], :] = kept
    return store
