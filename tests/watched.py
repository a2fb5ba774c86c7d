"""train.py's trainer under hooks: what its layers did, counted."""

from collections import Counter

import torch
from torch import nn

import train


def watched_trainer(seen: Counter) -> type[train.CommentaryTrainer]:
    """A trainer that counts batches, their samples, and of the text model's first layer: its forward passes (twice a
    batch where it is computed again for the backward pass) and the dtype of what it computes."""

    class Watched(train.CommentaryTrainer):
        def __init__(self, checkpoint: train.Checkpoint, *rest: object) -> None:
            super().__init__(checkpoint, *rest)
            # Recomputing a layer does not call the hooks of the layer itself, but those of its parts.
            checkpoint.model.model.language_model.layers[0].self_attn.q_proj.register_forward_hook(self._see)

        def _see(self, layer: nn.Module, inputs: object, output: torch.Tensor) -> None:
            seen.update(["layer", str(output.dtype)])

        def compute_loss(self, model: nn.Module, inputs: dict, *rest: object, **options: object) -> object:
            seen["batches"] += 1
            seen["samples"] += len(inputs["supervised"])
            return super().compute_loss(model, inputs, *rest, **options)

    return Watched
