"""The training loss: cross entropy on the supervised rows, the only ones that meet the vocabulary head."""

from torch import Tensor
from torch.nn import functional as F


def supervised_rows(hidden_BTH: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states that predict a supervised token, and that token: [N, H], int64 [N].

    In streaming data they are a few per cent of all rows; the others would multiply the vocabulary matrix in vain.
    """
    targets = labels_BT[:, 1:]
    rows = targets != -100
    return hidden_BTH[:, :-1][rows], targets[rows]


def token_losses(rows_NH: Tensor, weight_VH: Tensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
    """Loss of each token in float32 [N], and the logits [N, V]."""
    logits = F.linear(rows_NH, weight_VH)
    return F.cross_entropy(logits.float(), targets_N, reduction="none"), logits


def fused_mean_loss(rows_NH: Tensor, weight_VH: Tensor, targets_N: Tensor) -> Tensor:
    """Mean loss through Liger's fused operation, which never holds the logits whole. Needs Triton and a GPU."""
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    return LigerFusedLinearCrossEntropyLoss()(weight_VH, rows_NH, targets_N)
