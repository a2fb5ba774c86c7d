"""Reads many texts with a causal language model, and what several of them begin with once.

Clips of a video are given all that was said before them, so that most of what a model reads for one clip it has read
for the clip before. Texts are cut into blocks (block_trie.py); level by level, blocks are read behind the cached
keys and values of the blocks before them, rows of one level together.

A product of matrices rounds differently with its shape. Here all shapes depend on a block's level alone: [rows, width]
tokens behind [rows, level * width], and rows that are missing are filled up. So what is computed for a text is its own,
bit for bit, whatever is read with it, in one trie or another.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from data.production.language_model.block_trie import BlockTrie, TokenBlock, tries_of
from data.production.language_model.grouped_attention import group_attention
from data.production.language_model.paged_cache import PagedCache

WIDTH = 64  # tokens of a block; figures are in dev/benchmarks/production.md
LONG = 64  # blocks before a row from which fewer rows are read at once, since each brings its own copy of them
CACHE_BYTES = 1 << 31  # of the pages of one trie
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}  # relative, of hidden states; else COARSE
COARSE = 0.05  # bfloat16 and float16 after some dozens of layers

# (first place in the block, number of places, the first one's number in all that is asked for)
Wanted = dict[TokenBlock, list[tuple[int, int, int]]]


class Asked(NamedTuple):
    """The hidden states of a text's places from `first` on, numbered from `number` on."""

    ids: Sequence[int]
    first: int
    number: int


class BlockReader:
    """Hidden states of a causal model of transformers. n_places: how many tokens it was made for.

    refused: why the model cannot read by blocks; "" where it can.
    """

    def __init__(self, model: Any, n_places: int):
        self.model, self.n_places = model, n_places
        self._n_layers = 0
        self._page_bytes = 1
        self.refused = self._refusal()

    @torch.inference_mode()
    def read(self, texts: Sequence[Asked], tokens_per_batch: int) -> Iterator[tuple[list[int], Tensor]]:
        """(numbers, hidden states [N, C]) of what is asked for, in any order.

        tokens_per_batch: how many tokens are read at once; it decides the last bits.
        """
        left = iter(texts)
        max_blocks = max(1, CACHE_BYTES // self._page_bytes)
        for trie, paths in tries_of([text.ids for text in texts], WIDTH, max_blocks):
            wanted: Wanted = {}
            for path in paths:
                _want(wanted, path, next(left))
            yield from self._read_trie(trie, wanted, tokens_per_batch)

    def _read_trie(self, trie: BlockTrie, wanted: Wanted, tokens_per_batch: int) -> Iterator[tuple[list[int], Tensor]]:
        n_scratch = rows_at(0, tokens_per_batch)  # a page for each row that no block follows
        cache = PagedCache(self._n_layers, trie.number_pages(n_scratch), WIDTH)
        for level, blocks in enumerate(trie.levels):
            n_rows, mask = rows_at(level, tokens_per_batch), self._mask(level)
            for start in range(0, len(blocks), n_rows):
                chunk = blocks[start : start + n_rows]
                states = self._states(chunk, n_rows, mask, cache).flatten(0, 1)
                places, numbers = [], []
                for row, block in enumerate(chunk):
                    for place, count, number in wanted.get(block, ()):
                        places.extend(range(row * WIDTH + place, row * WIDTH + place + count))
                        numbers.extend(range(number, number + count))
                if places:
                    yield numbers, states[torch.tensor(places, device=states.device)]
        self._page_bytes = max(1, cache.n_bytes // cache.layers[0].n_pages)

    def _states(self, blocks: Sequence[TokenBlock], n_rows: int, mask: Tensor, cache: PagedCache) -> Tensor:
        """Hidden states [n_rows, WIDTH, C] of blocks of one level and of rows that fill up."""
        level, device = blocks[0].level, self.model.device
        ids = torch.zeros(n_rows, WIDTH, dtype=torch.long)
        table = torch.empty(n_rows, level + 1, dtype=torch.long)
        for row in range(n_rows):
            block = blocks[min(row, len(blocks) - 1)]
            if row < len(blocks):
                ids[row, : len(block.ids)] = torch.tensor(block.ids)
            own = block.page if row < len(blocks) and block.page is not None else row
            table[row] = torch.tensor([*block.pages(), own])
        cache.turn_to(table.to(device))
        # A row that is filled up may stand beyond the last place that the model knows.
        places = torch.arange(level * WIDTH, (level + 1) * WIDTH, device=device).clamp(max=self.n_places - 1)
        return self.model.base_model(
            input_ids=ids.to(device),
            attention_mask=mask.expand(n_rows, -1, -1, -1),
            position_ids=places.expand(n_rows, -1),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state

    def _mask(self, level: int) -> Tensor:
        """What is added to attention [1, 1, WIDTH, (level + 1) * WIDTH]: a place reaches itself and all before it."""
        dtype, device = self.model.dtype, self.model.device
        mask = torch.full((WIDTH, (level + 1) * WIDTH), torch.finfo(dtype).min, dtype=dtype, device=device)
        return mask.triu(level * WIDTH + 1)[None, None]

    def _refusal(self) -> str:
        try:
            layers = DynamicCache(config=self.model.config).layers
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            return f"it has no key/value cache of transformers ({error})"
        if not layers or any(type(layer) is not DynamicLayer for layer in layers):
            return "not all of its layers attend to all that was before"
        self._n_layers = len(layers)
        group_attention(self.model)
        try:
            apart = self._distance()
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:  # whatever a model of strangers says
            return f"it cannot go on behind a cache ({type(error).__name__}: {error})"
        if apart <= TOLERANCE.get(self.model.dtype, COARSE):
            return ""
        return f"behind a cache it computes other numbers ({apart:.2g} apart)"

    @torch.inference_mode()
    def _distance(self) -> float:
        """How far two texts that part in their second block are from the same read whole, relative."""
        n_ids = self.model.config.get_text_config().vocab_size
        long = [1 + i % (n_ids - 1) for i in range(min(5 * WIDTH // 2, self.n_places))]
        texts = [long, [*long[: WIDTH + 3], 1, 2]]
        ours = self._all_states(texts)
        ids = [torch.tensor([text], device=self.model.device) for text in texts]
        theirs = torch.cat([self.model.base_model(input_ids=row, use_cache=False)[0][0] for row in ids]).float()
        return float((ours - theirs).norm() / theirs.norm())

    def _all_states(self, texts: Sequence[Sequence[int]]) -> Tensor:
        firsts = itertools.accumulate(map(len, texts), initial=0)
        asked = [Asked(ids, 0, number) for ids, number in zip(texts, firsts, strict=False)]
        numbers, states = zip(*self.read(asked, 2 * WIDTH), strict=True)
        order = torch.tensor([number for part in numbers for number in part]).argsort()
        return torch.cat(states).float()[order.to(self.model.device)]


def rows_at(level: int, tokens_per_batch: int) -> int:
    """How many blocks of a level are read at once."""
    return max(1, tokens_per_batch // WIDTH * LONG // max(LONG, level + 1))


def _want(wanted: Wanted, path: Sequence[TokenBlock], text: Asked) -> None:
    """Note what is asked for of the blocks of a text."""
    number = text.number
    for block in path[text.first // WIDTH :]:
        place = max(text.first - block.level * WIDTH, 0)
        count = len(block.ids) - place
        if count > 0:
            wanted.setdefault(block, []).append((place, count, number))
            number += count
