"""Floating point operations of a training step, and the peak they are measured against.

A product of [n, k] and [k, m] counts 2nkm. One step of a sample of T tokens, S of them supervised, with F frames of N
patches each costs, forward:

    text    2 T (weights of the layers) + 2 T^2 (heads * head size) (layers)      causal: half of the square
    head    2 S (vocabulary * hidden size)                                        supervised rows only
    tower   2 F N (weights of the tower) + 4 F N^2 (width) (blocks)               N^2: in windows, the sum of theirs
    merger  2 F N / 4 (weights of the merger)

Backward costs the same again for each of two products: with the input where something below is trained, and with the
weight where that is trained. "Model" FLOPs are these; "hardware" FLOPs count what gradient checkpointing computes a
second time too: each block but its last product, after which torch has what it needs. Norms, activations and the
optimizer, a few per cent, are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.samples.patches import grid_tokens

# Dense bfloat16 tensor operations a second, from the makers' data sheets.
PEAKS = {
    "NVIDIA B200": 2250e12, "NVIDIA H200": 989e12, "NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 NVL": 835e12, "NVIDIA H800": 989e12, "NVIDIA GH200 480GB": 989e12, "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12, "NVIDIA A100-PCIE-40GB": 312e12, "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A800-SXM4-80GB": 312e12, "NVIDIA L40S": 362e12, "NVIDIA L4": 121e12, "NVIDIA A10G": 70e12,
    "NVIDIA GeForce RTX 4090": 165e12, "NVIDIA GeForce RTX 3090": 71e12,
}  # fmt: skip


@dataclass(frozen=True)
class Flops:
    """Operations of one batch or several: `model` without and `hardware` with what is computed twice."""

    model: float = 0.0
    hardware: float = 0.0

    def __add__(self, other: "Flops") -> "Flops":
        return Flops(self.model + other.model, self.hardware + other.hardware)


class FlopCounter:
    """Counts the operations of batches for one model as it is trained now: what is frozen costs no gradient."""

    def __init__(self, model: nn.Module):
        text = model.config.get_text_config()
        tower = model.model.visual
        self.layers = _Products.of(model.model.language_model.layers)
        self.blocks, self.patch_embed = _Products.of(tower.blocks), _Products.of(tower.patch_embed)
        self.merger, self.head = _Products.of(tower.merger), _Products.of(model.lm_head)
        self.layers_again = self.layers.weights - sum(
            count_numbers(layer.mlp.down_proj.weight) for layer in model.model.language_model.layers
        )
        last = [getattr(block.mlp, "fc2", None) or block.mlp.down_proj for block in tower.blocks]
        self.blocks_again = self.blocks.weights - sum(count_numbers(layer.weight) for layer in last)
        head_dim = text.hidden_size // text.num_attention_heads
        self.attention = 2 * text.num_attention_heads * head_dim * text.num_hidden_layers
        self.tower_attention = 4 * tower.patch_embed.proj.out_channels * len(tower.blocks)
        self.windowed, self.window = (
            0.0,
            1,
        )  # the share of blocks that see windows alone, and a window's side in patches
        if hasattr(tower, "fullatt_block_indexes"):
            self.windowed = 1 - len(tower.fullatt_block_indexes) / len(tower.blocks)
            self.window = tower.window_size // tower.patch_size
        trains_tower = any(p.requires_grad for module in (tower.blocks, tower.patch_embed) for p in module.parameters())
        trains_vision = trains_tower or self.merger.trained > 0
        embeds = model.get_input_embeddings().weight.requires_grad
        self.tower_gradient = trains_tower
        self.text_gradient = trains_vision or embeds or self.layers.trained > 0
        # transformers 5 renamed it.
        new_name = hasattr(type(model), "is_activation_checkpointing")
        checkpointed = model.is_activation_checkpointing if new_name else model.is_gradient_checkpointing
        self.recomputes_text = checkpointed and self.text_gradient
        self.recomputes_tower = checkpointed and trains_tower

    def count(self, lengths: Sequence[int], n_supervised: int, grids_thw: Tensor | None) -> Flops:
        """Count one forward and backward pass: tokens of each sample, supervised tokens of all, their grids [n, 3]."""
        n_tokens = sum(lengths)
        squares = sum(n * n for n in lengths)
        text = self.layers.cost(n_tokens, self.text_gradient) + self.attention * squares * _passes(self.text_gradient)
        text_again = 2.0 * n_tokens * self.layers_again + self.attention * squares
        head = self.head.cost(n_supervised, self.text_gradient)
        tower, tower_again = self._tower([] if grids_thw is None else grids_thw.tolist())
        again = (text_again if self.recomputes_text else 0.0) + (tower_again if self.recomputes_tower else 0.0)
        return Flops(text + head + tower, text + head + tower + again)

    def _tower(self, grids_thw: list[list[int]]) -> tuple[float, float]:
        n_patches = sum(t * h * w for t, h, w in grids_thw)
        attention = self.tower_attention * sum(t * self._pairs(h, w) for t, h, w in grids_thw)
        whole = (
            self.blocks.cost(n_patches, self.tower_gradient)
            + self.patch_embed.cost(n_patches, False)
            + attention * _passes(self.tower_gradient)
            + self.merger.cost(sum(map(grid_tokens, grids_thw)), self.tower_gradient)
        )
        return whole, 2.0 * n_patches * self.blocks_again + attention

    def _pairs(self, h: int, w: int) -> float:
        """Pairs of patches of one frame that attend to each other, a mean over the blocks."""
        in_windows = _squares(h, self.window) * _squares(w, self.window)
        return (1 - self.windowed) * (h * w) ** 2 + self.windowed * in_windows


def _squares(length: int, window: int) -> int:
    """Sum of the squares of the windows' lengths along one side, the last one cut off."""
    return length // window * window**2 + (length % window) ** 2


@dataclass(frozen=True)
class _Products:
    """Weights that rows are multiplied by: how many numbers, and how many of them are trained."""

    weights: int
    trained: int

    @classmethod
    def of(cls, module: nn.Module) -> "_Products":
        matrices = [p for p in module.parameters() if len(getattr(p, "ds_shape", p.shape)) >= 2]
        return cls(sum(map(count_numbers, matrices)), sum(count_numbers(p) for p in matrices if p.requires_grad))

    def cost(self, n_rows: int, input_gradient: bool) -> float:
        return 2.0 * n_rows * (self.weights * (1 + input_gradient) + self.trained)


def count_numbers(parameter: nn.Parameter) -> int:
    """Count the numbers of a parameter, also where ZeRO-3 has left none of them here, or where a byte holds two."""
    in_4_bits = getattr(parameter, "quant_state", None) is not None  # bitsandbytes
    return 2 * parameter.numel() if in_4_bits else getattr(parameter, "ds_numel", parameter.numel())


def _passes(gradient: bool) -> int:
    """Attention has two products and no weights: each costs two more backward."""
    return 3 if gradient else 1


def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """Peak operations a second of the device in bfloat16, of the data sheet with exactly its name; else None.

    None is measured: beside other work that gives a peak that the training then exceeds.
    """
    if device.type != "cuda" or dtype != torch.bfloat16:
        return None
    return PEAKS.get(torch.cuda.get_device_name(device))
