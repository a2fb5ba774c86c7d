"""Hidden states of many texts under a causal language model; what a text begins with like the one before is read once.

Clips of a video are given all that was said before them, so that most of what a model reads for one clip it has read
for the clip before. Texts are read in the order of their tokens, block by block; blocks that two neighbours share stay
in transformers' DynamicCache, which is cropped to them.

A product of matrices rounds differently with its shape. Here all shapes depend on a block's place alone: [1, width]
tokens behind [1, k * width], the last block filled up. So what is computed for a text is its own, bit for bit, whatever
is read with it.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

WIDTH = 64  # tokens of a block; figures are in dev/benchmarks/production.md
TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-3}  # relative, of hidden states; else COARSE
COARSE = 0.05  # bfloat16 and float16 after some dozens of layers


class WantedStates(NamedTuple):
    """The hidden states of a text's places from `first` on, numbered from `number` on."""

    ids: Sequence[int]
    first: int
    number: int


class PrefixReader:
    """Hidden states of a causal model of transformers. n_places: how many tokens it was made for.

    refused: why the model cannot read behind a cache; "" where it can.
    """

    def __init__(self, model: Any, n_places: int):
        self.model, self.n_places = model, n_places
        self.refused = self._refusal()

    @torch.inference_mode()
    def read(self, texts: Sequence[WantedStates], width: int) -> Iterator[tuple[list[int], Tensor]]:
        """(numbers, hidden states [N, C]) of what is wanted, in any order. width: tokens of a block."""
        cache, before = DynamicCache(), ()
        for text in sorted(texts, key=lambda text: text.ids):
            n_kept = min(_n_shared(before, text.ids), text.first) // width * width
            if n_over := cache.get_seq_length() - n_kept:
                cache.crop(-n_over)
            for start in range(n_kept, len(text.ids), width):
                states = self._states(text.ids[start : start + width], start, width, cache)
                first, stop = max(text.first - start, 0), min(len(text.ids) - start, width)
                if first < stop:
                    number = text.number + start + first - text.first
                    yield list(range(number, number + stop - first)), states[first:stop]
            before = text.ids

    def _states(self, block: Sequence[int], start: int, width: int, cache: DynamicCache) -> Tensor:
        """Hidden states [width, C] of a block and of what fills it up, behind the `start` tokens in the cache."""
        ids = torch.tensor([[*block, *[0] * (width - len(block))]], device=self.model.device)
        # What fills a block up may stand beyond the last place that the model knows.
        places = torch.arange(start, start + width, device=self.model.device).clamp(max=self.n_places - 1)
        read = self.model.base_model(input_ids=ids, position_ids=places[None], past_key_values=cache, use_cache=True)
        return read.last_hidden_state[0]

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
        """How far two texts that part in their second block are from the same read whole, relative."""
        n_ids = self.model.config.get_text_config().vocab_size
        long = [1 + i % (n_ids - 1) for i in range(min(5 * WIDTH // 2, self.n_places))]
        texts = [long, [*long[: WIDTH + 3], 1, 2]]
        # The cache must serve the second text read, so that only states after the first block are wanted of it.
        firsts = (0, min(WIDTH, len(texts[1]) - 1))
        starts = itertools.accumulate((len(ids) - first for ids, first in zip(texts, firsts, strict=True)), initial=0)
        wanted = [WantedStates(ids, first, n) for ids, first, n in zip(texts, firsts, starts, strict=False)]
        numbers, states = zip(*self.read(wanted, WIDTH), strict=True)
        ours = torch.cat(states).float()[torch.tensor([n for part in numbers for n in part]).argsort()]
        whole = [torch.tensor([ids], device=self.model.device) for ids in texts]
        theirs = [
            self.model.base_model(input_ids=ids, use_cache=False)[0][0, first:]
            for ids, first in zip(whole, firsts, strict=True)
        ]
        theirs = torch.cat(theirs).float()
        return float((ours - theirs).norm() / theirs.norm())


def _n_shared(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """How many tokens two texts begin alike with."""
    pairs = zip(ours, theirs, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
