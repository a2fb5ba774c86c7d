"""Prefix cache of one clip that is asked about many times: what two prompts have in common is prefilled once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from data.samples.conversation import VisualBlock
from data.samples.positions import position_ids
from models.load import Checkpoint
from models.streaming.cache import KVCache
from models.streaming.decoder import Decoder, StreamRows
from models.streaming.decoding import NO_TOKEN, TokenChoice, choose_tokens, not_finite
from models.streaming.options import DecodingOptions

CHUNK_TOKENS = 1024  # read at once: bounds the memory of masks and activations of a clip of 24,000 visual tokens


class PrefixReader:
    """Prefills prompts about one clip, each from where it first differs from the one before it.

    block, features: the clip as the vision tower sees it, encoded once; every prompt holds its pad tokens once. Instead
    of a copy for each question there is one cache, whose tokens behind the common prefix are given back.
    """

    def __init__(self, checkpoint: Checkpoint, block: VisualBlock, features: Tensor):
        self.checkpoint, self.block, self.features = checkpoint, block, features
        self.model = checkpoint.model
        self.decoder = Decoder(self.model)
        self.cache = KVCache.of(self.model)
        self.read: list[int] = []  # the ids in the cache
        self.n_prefilled = 0  # tokens that the model was given in all

    @torch.inference_mode()
    def logits(self, ids: Sequence[int]) -> Tensor:
        """Prefill a prompt, ids [n] with one pad per visual token; returns logits float32 [V] of what follows it.

        Raises UserError where they are not finite.
        """
        kept = common_length(self.read, ids[:-1])  # the last token is read again: its hidden state gives the logits
        self.cache.truncate(kept)
        positions = position_ids(torch.tensor(ids), [self.block], self.checkpoint.position_mode, self._pads)
        self.read = list(ids)
        self.n_prefilled += len(ids) - kept
        hidden: Tensor
        for start in range(kept, len(ids), CHUNK_TOKENS):
            stop = min(start + CHUNK_TOKENS, len(ids))
            hidden = self._prefill(
                torch.tensor(ids[start:stop]), positions[:, start:stop], self._features(ids, start, stop)
            )
        logits = self.model.lm_head(hidden[-1]).float()
        if not logits.amax().isfinite():
            raise not_finite()
        return logits

    @torch.inference_mode()
    def write(self, ids: Sequence[int], max_new_tokens: int) -> list[int]:
        """Generate greedily; returns the ids of the answer to a prompt, without what ends it."""
        said: list[int] = []
        logits = self.logits(ids)
        next_position = self._next_position
        greedy = DecodingOptions(repetition_penalty=1.0)
        choice = TokenChoice(greedy, self.checkpoint.chat.silence, forbidden_ids=tuple(self._pads.values()))
        while len(said) < max_new_tokens:
            (token,) = choose_tokens(logits[None], [], [choice])
            if token == NO_TOKEN:
                raise not_finite()
            if token in self.checkpoint.eos_ids:
                break
            said.append(token)
            positions = torch.full((3, 1), next_position + len(said) - 1)
            self.read.append(token)
            logits = self.model.lm_head(self._prefill(torch.tensor([token]), positions, None)[-1]).float()
        return said

    @property
    def _pads(self) -> dict[str, int]:
        return {"image": self.checkpoint.chat.image_pad, "video": self.checkpoint.chat.video_pad}

    @property
    def _next_position(self) -> int:
        positions = position_ids(torch.tensor(self.read), [self.block], self.checkpoint.position_mode, self._pads)
        return int(positions.max()) + 1

    def _features(self, ids: Sequence[int], start: int, stop: int) -> Tensor | None:
        """The features whose pads are among ids[start:stop]."""
        is_pad = torch.tensor(ids[:stop]) == self._pads[self.block.kind]
        before, until = int(is_pad[:start].sum()), int(is_pad.sum())
        return self.features[before:until] if until > before else None

    def _prefill(self, ids: Tensor, positions: Tensor, features: Tensor | None) -> Tensor:
        """Hidden states [n, H] of new tokens, which the cache gains."""
        device = self.checkpoint.device
        embeds = self.model.embed(ids.to(device), features)
        allocation = self.cache.take(len(ids))
        return self.decoder(embeds, positions.to(device), [StreamRows(self.cache, allocation, 0, len(ids))])


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Length of the common prefix of two sequences."""
    for at, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return at
    return min(len(first), len(second))
