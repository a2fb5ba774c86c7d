"""Record of the training engine: what wraps the model, what one process held of it, and how it computed."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer


class ComputeDtype:
    """The dtype in which a layer gives its results, seen in its first forward pass; None before."""

    def __init__(self, layer: nn.Module) -> None:
        self.name: str | None = None
        self._hook = layer.register_forward_hook(self._see)

    def _see(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self.name = str(output.dtype).removeprefix("torch.")
        self._hook.remove()


def engine_record(wrapped: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Describe the engine and this process's part of the run, counted in numbers.

    wrapped: the model as it was trained, within DDP's or DeepSpeed's object, or as FSDP2 changed it. Under plain Adam
    there are two numbers of optimizer state for each trained parameter; ZeRO and FSDP2 spread them over the processes.
    """
    return {
        "engine": type(wrapped).__name__,
        "zero_stage": wrapped.zero_optimization_stage() if hasattr(wrapped, "zero_optimization_stage") else 0,
        "parameters_held": sum(map(held, wrapped.parameters())),
        "optimizer_state_held": sum(map(held, _state(optimizer))),
    }


def held(tensor: Tensor) -> int:
    """Count the numbers of a tensor that this process holds."""
    if isinstance(tensor, DTensor):
        return tensor.to_local().numel()
    return getattr(tensor, "ds_tensor", tensor).numel()  # ZeRO-3's own part


def _state(optimizer: Optimizer) -> list[Tensor]:
    while hasattr(optimizer, "optimizer"):  # accelerate's object around DeepSpeed's around torch's
        optimizer = optimizer.optimizer
    values = [value for state in optimizer.state.values() for value in state.values()]
    return [value for value in values if isinstance(value, torch.Tensor) and value.ndim]  # no step counts
