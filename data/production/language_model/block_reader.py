"""Hidden states of one text after another behind transformers' key/value cache, which keeps what they begin with.

Clips of a video are given all that was said before them, so that most of what a model reads for one clip it has read
for the clip before. A product of matrices rounds differently with its shape. So a text's beginning is read in whole
blocks of WIDTH tokens, each by itself, and what is left in one piece: the shapes depend on the text alone, and so does
every bit of what is computed for it, whether a block was kept from another text or is read now.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

WIDTH = 128  # tokens of a block; figures are in dev/benchmarks/production.md
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}  # relative, of hidden states; else COARSE
COARSE = 0.05  # bfloat16 and float16 after some dozens of layers


class BlockReader:
    """A causal model of transformers and the blocks that were read last. refused: why it cannot read so, else ""."""

    def __init__(self, model: Any):
        self.model = model
        self._cache, self._kept = DynamicCache(), []  # what is kept, and its ids
        self.refused = self._refusal()

    @torch.inference_mode()
    def read(self, ids: Sequence[int], first: int, n_common: int) -> Tensor:
        """Hidden states [len(ids) - first, C] of the places from `first` on.

        n_common: of the ids that other texts may begin with; their whole blocks are kept for the next text.
        """
        end = n_common // WIDTH * WIDTH
        cache, start = self._take(ids[: min(first, end)])
        states = []
        for stop in [*range(start + WIDTH, end + 1, WIDTH), len(ids)]:
            if start < stop:
                states.append(self._states(ids, start, stop, cache)[max(0, first - start) :])
            start = stop
        _cut(cache, len(ids) - end)
        self._cache, self._kept = cache, ids[:end]
        return torch.cat(states)

    def _take(self, ids: Sequence[int]) -> tuple[DynamicCache, int]:
        """The cache, cut off behind the whole blocks that the ids begin with, and where that is.

        It is taken out, so that a text that fails half way leaves nothing of it to the next.
        """
        cache, kept = self._cache, self._kept
        self._cache, self._kept = DynamicCache(), []
        n = 0
        while n + WIDTH <= min(len(ids), len(kept)) and kept[n : n + WIDTH] == ids[n : n + WIDTH]:
            n += WIDTH
        _cut(cache, len(kept) - n)
        return cache, n

    def _states(self, ids: Sequence[int], start: int, stop: int, cache: DynamicCache) -> Tensor:
        """Hidden states [stop - start, C] of ids[start:stop] behind those before them, which the cache holds."""
        device = self.model.device
        return self.model.base_model(
            input_ids=torch.tensor([ids[start:stop]], device=device),
            position_ids=torch.arange(start, stop, device=device)[None],
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[0]

    def _refusal(self) -> str:
        try:
            layers = DynamicCache(config=self.model.config).layers
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            return f"it has no key/value cache of transformers ({error})"
        if not layers or any(type(layer) is not DynamicLayer for layer in layers):
            return "not all of its layers attend to all that was before"
        try:
            apart = self._distance()
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:  # whatever a model of strangers says
            return f"it cannot go on behind a cache ({type(error).__name__}: {error})"
        if apart <= TOLERANCE.get(self.model.dtype, COARSE):
            return ""
        return f"behind a cache it computes other numbers ({apart:.2g} apart)"

    @torch.inference_mode()
    def _distance(self) -> float:
        """How far a text of two blocks, the first kept from another text, is from the same read whole, relative."""
        config = self.model.config.get_text_config()
        n_places = min(2 * WIDTH, getattr(config, "max_position_embeddings", None) or 2 * WIDTH)
        ids = [1 + i % (config.vocab_size - 1) for i in range(n_places)]
        self.read([*ids[:-1], 1], 0, n_places)
        ours = self.read(ids, n_places // 2, n_places).float()
        whole = torch.tensor([ids], device=self.model.device)
        theirs = self.model.base_model(input_ids=whole, use_cache=False)[0][0, n_places // 2 :].float()
        return float((ours - theirs).norm() / theirs.norm())


def _cut(cache: DynamicCache, n: int) -> None:
    """Remove the last n tokens."""
    if n:  # older versions take 0 for the length that is left
        cache.crop(-n)
