"""A key/value cache of pages: rows of tokens attend to pages that were written before, each row to its own.

A cache of transformers holds one row for each text. Here what was written once may stand before several rows: a page
has the keys and values of `width` tokens, and a table says which pages stand before each row.
"""

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class PagedLayer(DynamicLayer):
    """Pages of one layer: keys and values [pages, heads, width, head size]."""

    def __init__(self, n_pages: int):
        super().__init__()
        self.n_pages, self.n_before = n_pages, 0
        self.table = torch.empty(0, 1, dtype=torch.long)

    def update(self, key_states: Tensor, value_states: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        """Write states [rows, heads, width, head size] to each row's last page; returns those of all its pages."""
        if not self.is_initialized:
            self.keys, self.values = (self._room_for(states) for states in (key_states, value_states))
            self.is_initialized = True
        return self._turn(self.keys, key_states), self._turn(self.values, value_states)

    def get_seq_length(self, *args, **kwargs) -> int:
        """Tokens before those that are read now."""
        return self.n_before

    def _room_for(self, states: Tensor) -> Tensor:
        return states.new_empty(self.n_pages, *states.shape[1:])

    def _turn(self, pages: Tensor, states: Tensor) -> Tensor:
        pages[self.table[:, -1]] = states
        n_rows, n_heads, width, size = states.shape
        heads = torch.arange(n_heads, device=states.device)[:, None]
        chosen = self.table[:, None] * n_heads + heads  # [rows, heads, pages of a row]
        return pages.view(-1, width * size).index_select(0, chosen.flatten()).view(n_rows, n_heads, -1, size)


class PagedCache(Cache):
    """n_pages pages of width tokens in each of n_layers layers."""

    def __init__(self, n_layers: int, n_pages: int, width: int):
        self.width = width
        super().__init__(layers=[PagedLayer(n_pages) for _ in range(n_layers)])

    def turn_to(self, table: Tensor) -> None:
        """Of the rows that are read next: the pages before each, and the one it is written to. table [rows, pages]."""
        for layer in self.layers:
            layer.table, layer.n_before = table, (table.shape[1] - 1) * self.width

    @property
    def n_bytes(self) -> int:
        """Size of all pages that have room."""
        return sum(x.nbytes for layer in self.layers if layer.is_initialized for x in (layer.keys, layer.values))
