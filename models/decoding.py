"""The choice of the next token: penalty, threshold on silence, greedy or sampled."""

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


@dataclass(frozen=True)
class DecodingOptions:
    """How tokens are chosen. `temperature`, `top_k` and `top_p` matter only with `do_sample`."""

    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    repetition_penalty: float = 1.05
    # " ..." is forbidden while its probability is at most base + step * (tokens already spoken in this step).
    silence_threshold_base: float | None = None
    silence_threshold_step: float = 0.0


class TokenChooser:
    """Turns a row of logits into a token id; owns the random state of one stream."""

    def __init__(self, options: DecodingOptions, silence_id: int, device: torch.device):
        self.options = options
        self.silence_id = silence_id
        self.generator = torch.Generator(device).manual_seed(options.seed)
        self.warpers = LogitsProcessorList()
        if options.do_sample and options.temperature != 1.0:
            self.warpers.append(TemperatureLogitsWarper(options.temperature))
        if options.do_sample and options.top_k:
            self.warpers.append(TopKLogitsWarper(options.top_k))
        if options.do_sample and options.top_p < 1.0:
            self.warpers.append(TopPLogitsWarper(options.top_p))

    def choose(self, logits: Tensor, seen: Tensor, n_spoken: int, may_be_silent: bool = True) -> int:
        """Next token id.

        logits: [V]; seen: bool [V], the tokens of the context; n_spoken: tokens already generated in this turn.
        The penalty divides positive logits of seen tokens and multiplies negative ones (Keskar et al. 2019).
        """
        logits = logits.float()
        penalty = self.options.repetition_penalty
        if penalty != 1.0:
            logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
        if may_be_silent and self.options.silence_threshold_base is not None:
            limit = self.options.silence_threshold_base + self.options.silence_threshold_step * n_spoken
            silent = logits.softmax(-1)[self.silence_id] <= limit
            logits = logits.clone()
            logits[self.silence_id] = torch.where(silent, -torch.inf, logits[self.silence_id])
        if not self.options.do_sample:
            return int(logits.argmax())
        scores = self.warpers(seen.new_zeros((1, 0), dtype=torch.long), logits[None])
        return int(torch.multinomial(scores.softmax(-1)[0], 1, generator=self.generator))
