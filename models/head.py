"""The vocabulary head: hidden states -> logits, or in training the loss."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.loss import fused_sums_by_sample, sums_by_sample, token_losses


class VocabularyHead(nn.Linear):
    """A linear layer that also computes the training loss.

    In its own forward pass, because FSDP2 and ZeRO-3 hold a part of the weight on each process and put it together
    around that pass: whoever reads the weight from outside may find the part.
    """

    def forward(
        self,
        rows: Tensor,
        targets_N: Tensor | None = None,
        counts: Sequence[int] | None = None,
        fused: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor | None]:
        """[..., H] -> logits [..., V]; with targets of rows [N, H] their losses in float32, and logits [N, V].

        Losses are of each token [N], or with counts, the supervised tokens of each of S samples, sums [S]. fused:
        sums by Liger's operation, which has no logits to give (None).
        """
        if targets_N is None:
            return super().forward(rows)
        if fused:
            return fused_sums_by_sample(rows, self.weight, targets_N, counts), None
        losses, logits = token_losses(rows, self.weight, targets_N)
        return losses if counts is None else sums_by_sample(losses, counts), logits

    @classmethod
    def over(cls, head: nn.Linear) -> "VocabularyHead":
        """Make a head on the weight of another one, which may be tied to the embedding."""
        own = cls(head.in_features, head.out_features, bias=False, device="meta")
        own.weight = head.weight
        return own
