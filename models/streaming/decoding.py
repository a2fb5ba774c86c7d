"""Token choice: repetition penalty, threshold on silence, greedy or sampled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from models.streaming.options import DecodingOptions
from utils.errors import UserError

NO_TOKEN = -1
SMALL = 1e-3  # temperature


@dataclass(frozen=True)
class TokenChoice:
    """Rules for the choice of one row's token.

    least_silence: forbid `silence_id` up to this probability. forbidden_ids: never chosen.
    """

    options: DecodingOptions
    silence_id: int
    generator: torch.Generator | None = None
    least_silence: float | None = None
    forbidden_ids: tuple[int, ...] = ()


def choose_tokens(logits: Tensor, counts: Sequence[Tensor], choices: Sequence[TokenChoice]) -> list[int]:
    """Choose the next token id of every stream, NO_TOKEN where its logits are not finite; all are read at once.

    logits: [B, V]; counts: per stream int [V], how often each token is in its context. The penalty divides positive
    logits of tokens in the context and multiplies negative ones (Keskar et al. 2019).
    """
    broken = ~logits.amax(-1).isfinite()  # NaN wins a maximum, and tokens that are forbidden have -inf
    logits = logits.masked_fill(broken[:, None], 0.0)  # sampling from NaN would end the whole batch
    logits = _penalised(logits.float(), counts, [choice.options.repetition_penalty for choice in choices])
    logits = _less_silent(_without_forbidden(logits, choices), choices)
    tokens = logits.argmax(-1)
    for row, choice in enumerate(choices):
        if choice.options.do_sample:
            tokens[row] = _sample(logits[row : row + 1], choice)
    return tokens.masked_fill(broken, NO_TOKEN).tolist()


def not_finite() -> UserError:
    """What is said where no token can be chosen."""
    return UserError(
        "the model's logits are not finite (NaN), so it can say nothing: the weights are damaged, or too large for "
        "float16; load them again, or with --dtype bfloat16 or float32"
    )


def _penalised(logits: Tensor, counts: Sequence[Tensor], penalties: Sequence[float]) -> Tensor:
    if all(penalty == 1.0 for penalty in penalties):
        return logits
    seen = torch.stack(list(counts)) > 0
    penalty = logits.new_tensor(penalties)[:, None]
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def _without_forbidden(logits: Tensor, choices: Sequence[TokenChoice]) -> Tensor:
    if not any(choice.forbidden_ids for choice in choices):
        return logits
    logits = logits.clone()
    for row, choice in enumerate(choices):
        logits[row, list(choice.forbidden_ids)] = -torch.inf
    return logits


def _less_silent(logits: Tensor, choices: Sequence[TokenChoice]) -> Tensor:
    least = {row: choice.least_silence for row, choice in enumerate(choices) if choice.least_silence is not None}
    if not least:
        return logits
    logits = logits.clone()
    for row, probability in least.items():
        silence_id = choices[row].silence_id
        forbidden = logits[row].softmax(-1)[silence_id] <= probability
        logits[row, silence_id] = torch.where(forbidden, -torch.inf, logits[row, silence_id])
    return logits


def _sample(logits: Tensor, choice: TokenChoice) -> Tensor:
    options = choice.options
    warpers = LogitsProcessorList()
    if options.temperature < SMALL:
        logits = logits - logits.amax()  # else they leave the range of float32, and their softmax is NaN
    if options.temperature != 1.0:
        warpers.append(TemperatureLogitsWarper(options.temperature))
    if options.top_k:
        warpers.append(TopKLogitsWarper(options.top_k))
    if options.top_p < 1.0:
        warpers.append(TopPLogitsWarper(options.top_p))
    no_ids = cast(torch.LongTensor, logits.new_zeros((1, 0), dtype=torch.long))
    scores = warpers(no_ids, cast(torch.FloatTensor, logits))
    return torch.multinomial(scores.softmax(-1)[0], 1, generator=choice.generator)[0]
