"""Muon beside AdamW: the library's Muon reproduced, groups, schedules, and a state that goes on exactly."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from models.training.optimizer import JoinedOptimizer, Muon, muon_with_adamw, orthogonalize
from utils.errors import UserError


class Blocks(nn.Module):
    """Names and shapes as in a transformer, small."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 6)
        self.layers = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(6, 9), "norm": nn.LayerNorm(6)}) for _ in "ab")
        self.head = nn.Linear(6, 7)

    def named_parameters(self, *args, **kwargs):
        return ((f"model.{name}", p) for name, p in super().named_parameters(*args, **kwargs))


def make_optimizer(model: nn.Module) -> JoinedOptimizer:
    decayed = {name for name, p in model.named_parameters() if p.ndim == 2}
    return muon_with_adamw(
        model,
        lambda groups: torch.optim.AdamW(groups, lr=1e-3),
        muon_learning_rate=0.02,
        weight_decay=0.1,
        decayed=decayed,
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_matrices_of_blocks_go_to_muon_and_nothing_else():
    model = Blocks()
    optimizer = make_optimizer(model)
    *adamw, muon = optimizer.param_groups
    assert [tuple(p.shape) for p in muon["params"]] == [(9, 6), (9, 6)]
    assert [(len(group["params"]), group["weight_decay"]) for group in adamw] == [(2, 0.1), (7, 0.0)]
    assert len(list(model.parameters())) == sum(len(group["params"]) for group in optimizer.param_groups)


def test_muon_is_the_librarys_within_its_bfloat16():
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(*shape)) for shape in ((12, 8), (8, 12), (12, 8))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    optimizers = Muon(ours, 0.02, weight_decay=0.1), torch.optim.Muon(theirs, 0.02, weight_decay=0.1)
    for step in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=torch.Generator().manual_seed(step))
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-3, rtol=0)


@pytest.mark.parametrize("shape", [(2, 5, 9), (3, 9, 5)])
def test_singular_values_are_brought_near_one(shape):
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
    assert values.min() > 0.6 and values.max() < 1.3


def test_a_schedule_scales_each_part_from_its_own_rate():
    optimizer = make_optimizer(Blocks())
    scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    train_model = Blocks()
    train(train_model, optimizer, range(1))
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [5e-4, 5e-4, 0.01]
    assert scheduler.get_last_lr()[0] == 5e-4


def test_a_loaded_state_goes_on_exactly():
    model = Blocks()
    optimizer = make_optimizer(model)
    train(model, optimizer, range(3))
    other = copy.deepcopy(model)
    resumed = make_optimizer(other)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, range(3, 6))
    train(other, resumed, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_parameters_without_gradient_stay():
    model = Blocks()
    before = copy.deepcopy(model.state_dict())
    make_optimizer(model).step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_frozen_blocks_are_refused():
    model = Blocks()
    model.layers.requires_grad_(False)
    with pytest.raises(UserError, match="--freeze_modules"):
        make_optimizer(model)
