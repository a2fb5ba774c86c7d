"""Updates whose loss or gradients are not finite: skipped, counted, said; some in a row end the run."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import nn
from transformers import TrainerCallback

from utils.errors import UserError

logger = logging.getLogger(__name__)


class FiniteSteps(TrainerCallback):
    """Drops the gradients of an update that is not finite, so that the optimizer leaves the weights as they are.

    limit: how many may be skipped in a row. take_places: FILE:LINE of the update's samples. sum_over_ranks: as in the
    loader; every rank must call. Nothing is saved in between.
    """

    def __init__(
        self, limit: int, take_places: Callable[[], list[str]], sum_over_ranks: Callable[[list[float]], Sequence[float]]
    ) -> None:
        self.limit, self.take_places, self.sum_over_ranks = limit, take_places, sum_over_ranks
        self.n_skipped = self.in_a_row = 0
        self.losses: list[torch.Tensor] = []

    def add(self, loss: torch.Tensor) -> None:
        """Take note of the loss of one batch of the update."""
        self.losses.append(loss.detach())

    def on_pre_optimizer_step(self, args, state, control, model: nn.Module | None = None, **kwargs) -> None:
        losses, samples = torch.stack(self.losses), self.take_places()
        self.losses = []
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        # Gradients in float16 overflow until the library's scaler has found its scale; it skips these itself.
        finite = bool(losses.isfinite().all()) and (args.fp16 or all_finite(gradients))
        if not self.sum_over_ranks([float(not finite)])[0]:
            self.in_a_row = 0
            return
        self.n_skipped += 1
        self.in_a_row += 1
        for parameter in model.parameters():
            parameter.grad = None
        if not finite:
            said = "a loss" if not losses.isfinite().all() else "gradients"
            where = ", ".join(samples[:4]) + (f" and {len(samples) - 4} more" if len(samples) > 4 else "")
            self._say(f"step {state.global_step + 1}: {said} not finite (samples {where})")

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.in_a_row:
            control.should_save = False

    def _say(self, what: str) -> None:
        if self.in_a_row >= self.limit:
            raise UserError(
                f"{what}; {self.in_a_row} updates in a row (--max_skipped_steps). Nothing was saved since. Lower "
                "--learning_rate or --max_grad_norm, look at these samples, or give --bf16 True in place of --fp16"
            )
        logger.warning("%s: skipped, the weights stay as they are (%d so far)", what, self.n_skipped)


def all_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether every number of these is finite."""
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
