"""Worth of options by what a model would say: logits of one token each, log-likelihoods where one has more."""

import functools
from collections.abc import Callable, Sequence

from torch import Tensor


def option_values(logits_after: Callable[[Sequence[int]], Tensor], options: Sequence[list[int]]) -> list[float]:
    """A value for each option (its tokens). logits_after: tokens after the prompt -> logits float [V] that follow."""
    if all(len(option) == 1 for option in options):
        logits = logits_after(())
        return [float(logits[option[0]]) for option in options]
    after = functools.cache(lambda said: logits_after(said).log_softmax(-1))
    return [sum(float(after(tuple(option[:i]))[token]) for i, token in enumerate(option)) for option in options]
