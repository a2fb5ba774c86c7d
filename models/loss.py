"""The training loss: cross entropy on the supervised rows, the only ones that meet the vocabulary head."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from data.samples.conversation import IGNORED


def supervised_rows(hidden_BTH: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states that predict a supervised token, and that token: [N, H], int64 [N].

    In streaming data they are a few per cent of all rows; the others would multiply the vocabulary matrix in vain.
    """
    targets = labels_BT[:, 1:]
    rows = targets != IGNORED
    return hidden_BTH[:, :-1][rows], targets[rows]


def token_losses(rows_NH: Tensor, weight_VH: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each token in float32 [N], and the logits [N, V]."""
    logits = F.linear(rows_NH, weight_VH)
    return F.cross_entropy(logits.float(), targets_N, reduction="none"), logits


def sums_by_sample(losses_N: Tensor, counts: Sequence[int]) -> Tensor:
    """Sum of each sample's token losses [S]; counts: supervised tokens of each, in the order of the rows."""
    return torch.stack([part.sum() for part in losses_N.split(list(counts))])


def fused_sums_by_sample(rows_NH: Tensor, weight_VH: Tensor, targets_N: Tensor, counts: Sequence[int]) -> Tensor:
    """The same through Liger's fused operation, which never holds the logits whole. Needs Triton and a GPU.

    One call a sample, as a sum has one factor in the backward pass.
    """
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    summed = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    sums = []
    for rows, targets in zip(rows_NH.split(list(counts)), targets_N.split(list(counts)), strict=True):
        if not len(rows):  # which the operation cannot take; an empty sum keeps the graph whole
            sums.append(rows.float().sum())
        elif len(rows) == len(rows_NH):
            sums.append(summed(weight_VH, rows, targets))
        else:
            # Each call makes a gradient as large as the head, and keeps it until the backward pass: computed anew
            # there, only one of them exists at a time.
            sums.append(checkpoint(summed, weight_VH, rows, targets, use_reentrant=False))
    return torch.stack(sums)
