"""The KV cache of one stream: preallocated slots that tokens take and give back; nothing is copied when one goes.

L layers, K key-value heads, C slots, D = head size. A token takes any free slot: attention does not see the order
of slots, only the rotation of their keys, which says where each token is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

FIRST_CAPACITY = 1024  # slots


@dataclass(frozen=True)
class SlotAllocation:
    """Slots of n new tokens: `write` indexes them in order; mask [n, width]: what each may see, None: everything."""

    slots: np.ndarray
    write: slice | Tensor
    width: int
    mask: Tensor | None

    def mask_of_rows(self, group: int) -> Tensor | None:
        """The mask for `group` query heads on each key-value head, as rows of it: [group * n, width]."""
        if self.mask is None or group == 1:
            return self.mask
        return self.mask.repeat(group, 1)


class KVCache:
    """Keys (rotated) and values of every live token: each [L, K, C, D], C doubling when the slots run out."""

    def __init__(self, keys: Tensor, values: Tensor, live: Tensor, row: int | None = None):
        """Wrap empty storage: keys, values [L, K, C, D], live bool [C]; row: the storage's number in a pool."""
        self.keys, self.values, self.live = keys, values, live
        self.row = self.pool_row = row  # where it decodes with others; what has to be given back
        self.n_live = 0
        self.width = 0  # slots from `width` on were never used
        self.freed: list[int] = []  # slots below it whose tokens are gone; the lowest is taken first

    @classmethod
    def of(cls, model) -> "KVCache":
        """Allocate a cache with storage of its own for a Qwen2-VL."""
        text = model.config.get_text_config()
        head_dim = text.hidden_size // text.num_attention_heads
        shape = (text.num_hidden_layers, text.num_key_value_heads, FIRST_CAPACITY, head_dim)
        keys = torch.empty(shape, dtype=model.dtype, device=model.device)
        return cls(keys, torch.empty_like(keys), torch.zeros(FIRST_CAPACITY, dtype=torch.bool, device=model.device))

    @property
    def capacity(self) -> int:
        """Slots allocated."""
        return self.live.shape[0]

    @property
    def has_room(self) -> bool:
        """Whether it is a row of a pool, and still will be with one token more."""
        return self.row is not None and (bool(self.freed) or self.width < self.capacity)

    @property
    def n_bytes(self) -> int:
        """Memory of the keys and values, used or not."""
        return 2 * self.keys.nbytes

    def take(self, n: int, masked: bool = True) -> SlotAllocation:
        """Allocate the slots of n new tokens. Each may see what was live before, those before it, and itself.

        masked: whether the allocation's mask is wanted.
        """
        n_old = min(n, len(self.freed))
        slots = np.array(self.freed[len(self.freed) - n_old :][::-1] + list(range(self.width, self.width + n - n_old)))
        del self.freed[len(self.freed) - n_old :]
        self.width += n - n_old
        self.reserve(self.width)
        in_order = n_old == 0 or bool((np.diff(slots) == 1).all())
        start = int(slots[0])
        write = slice(start, start + n) if in_order else torch.from_numpy(slots).to(self.live.device)
        before = self.live[: self.width].clone() if n > 1 and masked else None
        self.live[write] = True
        self.n_live += n
        return SlotAllocation(slots, write, self.width, self._mask(n, write, before) if masked else None)

    def release(self, slots: np.ndarray) -> None:
        """Free these slots; no later token sees what they held."""
        self.live[torch.from_numpy(slots).to(self.live.device)] = False
        self.n_live -= len(slots)
        self.freed = sorted([*self.freed, *slots.tolist()], reverse=True)

    def truncate(self, n: int) -> None:
        """Drop all but the first n tokens, where all were taken in order and none was released."""
        if self.freed:
            raise ValueError("tokens of this cache were released, so its first ones are not the oldest")
        self.live[n : self.width] = False
        self.n_live = self.width = min(n, self.width)

    def clear(self) -> None:
        """Drop all tokens; keep the memory."""
        self.live.zero_()
        self.n_live = self.width = 0
        self.freed = []

    def attend(
        self, layer: int, allocation: SlotAllocation, mask: Tensor | None, query: Tensor, key: Tensor, value: Tensor
    ) -> Tensor:
        """Store new keys and values [n, K, D] and attend to all that is live: query [n, heads, D] -> [n, heads * D].

        mask: the allocation's, of rows.
        """
        n, n_heads, head_dim = query.shape
        n_kv = key.shape[1]
        keys, values = self.keys[layer], self.values[layer]
        keys[:, allocation.write] = key.transpose(0, 1)
        values[:, allocation.write] = value.transpose(0, 1)
        # The query heads that share a key-value head are further rows of it, so that nothing is repeated.
        group = n_heads // n_kv
        rows = query.view(n, n_kv, group, head_dim).permute(1, 2, 0, 3).reshape(1, n_kv, group * n, head_dim)
        seen = F.scaled_dot_product_attention(
            rows, keys[None, :, : allocation.width], values[None, :, : allocation.width], attn_mask=mask
        )
        return seen.view(n_kv, group, n, head_dim).permute(2, 0, 1, 3).reshape(n, n_heads * head_dim)

    def fork(self) -> "KVCache":
        """Copy the cache: the same tokens in the same slots, in storage of its own."""
        keys = torch.empty_like(self.keys)
        return KVCache(keys, torch.empty_like(keys), torch.zeros_like(self.live)).copy_from(self)

    def copy_from(self, other: "KVCache") -> "KVCache":
        """Copy another cache's tokens, slot by slot; returns itself."""
        self.reserve(other.width)
        width = other.width
        self.keys[:, :, :width], self.values[:, :, :width] = other.keys[:, :, :width], other.values[:, :, :width]
        self.live[:width] = other.live[:width]
        self.n_live, self.width, self.freed = other.n_live, other.width, list(other.freed)
        return self

    # Tensors made in inference mode could not be changed outside of it, where tokens are dropped and moved.
    @torch.inference_mode(False)
    def reserve(self, n: int) -> None:
        """Grow the storage to n slots at least."""
        if n <= self.capacity:
            return
        capacity = 1 << (n - 1).bit_length()
        self.row = None  # it outgrows a pool
        for name in ("keys", "values"):
            kept = getattr(self, name)
            store = kept.new_empty((*kept.shape[:2], capacity, kept.shape[3]))
            store[:, :, : kept.shape[2]] = kept
            setattr(self, name, store)
        self.live = F.pad(self.live, (0, capacity - self.live.shape[0]))

    def _mask(self, n: int, write: slice | Tensor, before: Tensor | None) -> Tensor | None:
        """Additive [n, width]: 0 where a new token may look, -inf elsewhere; None where it may look everywhere."""
        if before is None:  # one token
            if self.n_live == self.width:
                return None
            seen = self.live[None, : self.width]
        else:
            seen = before.expand(n, -1).clone()
            seen[:, write] = torch.ones(n, n, dtype=torch.bool, device=seen.device).tril()
        return torch.zeros_like(seen, dtype=self.keys.dtype).masked_fill_(~seen, -torch.inf)
