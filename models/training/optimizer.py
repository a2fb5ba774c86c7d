"""Muon on the matrices of the transformer blocks and AdamW on everything else, as one optimizer."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from utils.errors import UserError

# Keller Jordan's quintic iteration (https://kellerjordan.github.io/posts/muon/), as in torch.optim.Muon: it
# pulls all singular values of a matrix towards 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(Optimizer):
    """torch.optim.Muon with Nesterov momentum, fit for a CPU too and for every torch.

    Matrices of one shape go through the iteration together, and in float32 on a CPU, where bfloat16 may be
    emulated.
    """

    def __init__(self, params: Iterable, lr: float, weight_decay: float = 0.1, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[tuple(parameter.shape)].append(parameter)
            for (rows, columns), parameters in by_shape.items():
                updates = orthogonalize(torch.stack([self._momentum(p, group["momentum"]) for p in parameters]))
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update.to(parameter.dtype), alpha=-rate)

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter.grad)
        buffer = state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(buffer, momentum)


def orthogonalize(matrices_KMN: Tensor) -> Tensor:
    """Bring the singular values of matrices [K, M, N] near 1, by Newton-Schulz iterations."""
    a, b, c = COEFFICIENTS
    x = matrices_KMN.bfloat16() if matrices_KMN.is_cuda else matrices_KMN.float()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class JoinedOptimizer(Optimizer):
    """Several optimizers over different parameters behind the interface of one: groups, state and step in
    common.

    The groups are the parts' groups one after the other, so a schedule scales each part from its own learning
    rate.
    """

    def __init__(self, parts: list[Optimizer]) -> None:
        self.parts = parts
        self.n_groups = [len(part.param_groups) for part in parts]
        super().__init__([group for part in parts for group in part.param_groups], defaults={})

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor] | None = None) -> None:
        """Step every part on the common groups and state."""
        if closure is not None:
            raise ValueError("JoinedOptimizer takes no closure: Muon and AdamW need one gradient each")
        first = 0
        for part, n in zip(self.parts, self.n_groups, strict=True):
            # Loading a state replaces both objects, so the parts are pointed at them here and not once.
            part.param_groups, part.state = self.param_groups[first : first + n], self.state
            part.step()
            first += n


def is_muon_matrix(name: str, parameter: nn.Parameter) -> bool:
    """True for the weight matrices inside transformer blocks and in the merger between tower and language model.

    Muon orthogonalises the update of a map between hidden states
    (https://kellerjordan.github.io/posts/muon/); embeddings, the head, norms and biases are no such maps.
    """
    return parameter.ndim == 2 and any(part in name for part in (".layers.", ".blocks.", ".merger."))


def muon_with_adamw(
    model: nn.Module,
    make_adamw: Callable[[list[dict]], Optimizer],
    *,
    muon_learning_rate: float,
    weight_decay: float,
    decayed: Iterable[str],
) -> JoinedOptimizer:
    """Build the joined optimizer over the parameters of `model` that are trained.

    make_adamw: takes parameter groups; used for what Muon does not take. decayed: names of the parameters
    that AdamW decays with `weight_decay`. Raises UserError where none of Muon's matrices are trained.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for name, p in trained.items() if is_muon_matrix(name, p)]
    if not matrices:
        raise UserError("--muon_learning_rate: no matrix of a transformer block is trained; see --freeze_modules")
    rest = {name: p for name, p in trained.items() if not is_muon_matrix(name, p)}
    decayed = set(decayed)
    groups = [
        {"params": [p for name, p in rest.items() if name in decayed], "weight_decay": weight_decay},
        {"params": [p for name, p in rest.items() if name not in decayed], "weight_decay": 0.0},
    ]
    muon = Muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay)
    # AdamW's rate is the one that logs show: the first group's.
    return JoinedOptimizer([make_adamw([group for group in groups if group["params"]]), muon])
