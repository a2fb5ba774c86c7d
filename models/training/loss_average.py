"""Weight of one token in an update: a mean over samples, or over all supervised tokens, of all its batches.

One update is `accumulation` batches on each of `world` ranks. Whoever sums up the batches' gradients divides by
their number (the Trainer by the accumulation, DDP and DeepSpeed by the ranks), so the weights here are that many
times as large: what is left is the gradient of the mean, however the samples are spread.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

LossAverage = Literal["sample", "token"]


def weigh_losses(
    batches: Sequence[dict[str, Any]],
    average: LossAverage,
    sum_over_ranks: Callable[[list[float]], Sequence[float]],
    world: int,
) -> None:
    """Set `loss_weights` of each of an update's batches: factors of the summed loss of each of S samples.

    sample: the mean over each sample's supervised tokens, then over samples, which is what single-sample batches
    mean without weights. token: the mean over supervised tokens. Every rank must call, with its own batches.
    Samples without a supervised token count for nothing. Weights are plain numbers: the Trainer would round a tensor
    to the precision of DeepSpeed's weights.
    """
    counts = [count for batch in batches for count in batch["supervised"]]
    n_samples, n_tokens = sum_over_ranks([float(sum(count > 0 for count in counts)), float(sum(counts))])
    divisions = len(batches) * world
    for batch in batches:
        weights = (_weight(count, average, n_samples, n_tokens) for count in batch["supervised"])
        batch["loss_weights"] = [weight * divisions for weight in weights]


def _weight(count: int, average: LossAverage, n_samples: float, n_tokens: float) -> float:
    if not count:
        return 0.0
    return 1 / n_tokens if average == "token" else 1 / (count * n_samples)
