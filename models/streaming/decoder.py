"""The text model over several streams at once: new tokens in one batch, each stream attending to its own cache."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.qwen2_vl import StreamingModel
from models.streaming.cache import KVCache, SlotAllocation
from models.streaming.rotary import Rotary, rotate


@dataclass(frozen=True)
class StreamRows:
    """Rows start to stop of the batch, which belong to one stream."""

    cache: KVCache
    allocation: SlotAllocation
    start: int
    stop: int


class Decoder:
    """Runs the library's layers on rows of any number of streams; what depends on a stream's past is its cache."""

    def __init__(self, model: StreamingModel):
        self.model = model
        self.layers = model.model.language_model.layers
        self.norm = model.model.language_model.norm
        self.rotary = Rotary(model.model.language_model)

    def __call__(self, embeds: Tensor, positions: Tensor, streams: Sequence[StreamRows]) -> Tensor:
        """Hidden states [N, H] of new tokens, embeds [N, H] at positions [3, N]; the caches gain them.

        The products with the weights are made once for all rows: that is what streams share.
        """
        # The same in every layer, so made once.
        masks = [stream.allocation.mask_of_rows(self.layers[0].self_attn.num_key_value_groups) for stream in streams]
        cos, sin = (part[:, None] for part in self.rotary(positions, embeds.dtype))
        hidden = embeds
        for number, layer in enumerate(self.layers):
            attention = layer.self_attn
            normed = layer.input_layernorm(hidden)
            shape = (len(hidden), -1, attention.head_dim)
            query = rotate(attention.q_proj(normed).view(shape), cos, sin)
            key = rotate(attention.k_proj(normed).view(shape), cos, sin)
            value = attention.v_proj(normed).view(shape)
            seen = []
            for stream, mask in zip(streams, masks, strict=True):
                parts = (part[stream.start : stream.stop] for part in (query, key, value))
                seen.append(stream.cache.attend(number, stream.allocation, mask, *parts))
            hidden = hidden + attention.o_proj(torch.cat(seen) if len(seen) > 1 else seen[0])
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.norm(hidden)
