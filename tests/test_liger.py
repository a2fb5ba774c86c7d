"""Liger's operations put into a model: same parameters, same numbers; on a CPU one warning and the eager ones."""

import json
import subprocess
import sys

import pytest
import torch

from data.loading.collate import collate
from models.load import load_checkpoint
from models.training import liger
from models.training.liger import (
    exchange_all,
    exchange_layer_norms,
    exchange_mlps,
    exchange_rms_norms,
    exchange_rotations,
    why_not_liger,
)
from tests.operations import WRITTEN_DOWN
from tests.training import ROOT, environment, make_annotations, train_flags
from train import TrainArguments, make_dataset

EXCHANGES = [exchange_rms_norms, exchange_mlps, exchange_rotations, exchange_layer_norms, exchange_all]


@pytest.fixture
def checkpoint(tiny_checkpoint):
    """In training mode; its weights are random, its norms' weights are made so too."""
    loaded = load_checkpoint(tiny_checkpoint, device="cpu")
    generator = torch.Generator().manual_seed(3)
    for name, parameter in loaded.model.named_parameters():
        if parameter.ndim == 1:
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.data.copy_(noise + (0 if name.endswith("bias") else 1))
    loaded.model.train()
    return loaded


@pytest.fixture
def batch(checkpoint, tmp_path, monkeypatch):
    """Two streams of different length, with frames: all three axes of the positions differ."""
    from data.loading.dataset import DataArguments

    for name, value in environment().items():
        if name.startswith("VIDEO"):
            monkeypatch.setenv(name, value)
    data = make_annotations(tmp_path, n_samples=2)
    arguments = TrainArguments(str(tmp_path / "not_trained"), report_to="none")
    dataset = make_dataset(checkpoint, DataArguments(annotation_paths=[str(data)]), arguments)
    batch = collate([dataset[0], dataset[1]], checkpoint.chat.pad)
    batch.pop("sources")
    return batch


def loss_and_gradients(model, batch) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return {"loss": loss.detach(), **{name: p.grad.clone() for name, p in model.named_parameters()}}


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_exchanged_modules_compute_the_same(checkpoint, batch, exchange):
    assert len({tuple(axes) for axes in batch["position_ids"].flatten(1).T.tolist()}) > 20
    before = loss_and_gradients(checkpoint.model, batch)
    exchange(checkpoint.model, WRITTEN_DOWN)
    after = loss_and_gradients(checkpoint.model, batch)
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_parameters_keep_names_and_places(checkpoint, exchange):
    model = checkpoint.model
    state = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    shared = dict(model.named_parameters())
    modules = {name: type(module) for name, module in model.named_modules()}
    exchange(model, WRITTEN_DOWN)
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == state
    assert all(parameter is shared[name] for name, parameter in model.named_parameters())
    tied = model.config.tie_word_embeddings
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    assert all(module.training for module in model.modules())
    assert {name: type(module) for name, module in model.named_modules()} != modules


def test_only_the_model_given_is_changed(checkpoint, tiny_checkpoint):
    exchange_all(checkpoint.model, WRITTEN_DOWN)
    other = load_checkpoint(tiny_checkpoint, device="cpu").model
    assert not [name for name, module in other.named_modules() if type(module).__module__ == liger.__name__]
    kinds = {type(module) for module in checkpoint.model.modules()}
    names = {kind.__name__ for kind in kinds if kind.__module__ == liger.__name__}
    assert names == {"FusedRMSNorm", "FusedLayerNorm", "FusedMLP", "FusedAttention", "AxisRotations"}


def test_a_model_with_other_operations_still_streams(checkpoint):
    """The streaming code reads the same attributes of the exchanged modules."""
    from models.streaming.options import StreamOptions
    from models.streaming.session import StreamingSession, comment, timed_frames

    frames = torch.randint(0, 256, (10, 3, 56, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    checkpoint.model.eval()

    def said() -> list[list[int]]:
        session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=5))
        return [step.token_ids for step in comment(session, timed_frames(frames))]

    before = said()
    exchange_all(checkpoint.model, WRITTEN_DOWN)
    assert said() == before


def test_rotations_that_follow_the_length_stay_eager(checkpoint):
    text = checkpoint.model.model.language_model
    text.config.rope_parameters["rope_type"] = "yarn"
    rotary = text.rotary_emb
    exchange_rotations(checkpoint.model, WRITTEN_DOWN)
    assert text.rotary_emb is rotary


@pytest.mark.parametrize("missing", ["triton", "liger_kernel"])
def test_why_not_names_what_is_missing(missing, monkeypatch):
    assert "this run is on cpu" in why_not_liger(torch.device("cpu"))
    for name in [name for name in sys.modules if name.split(".")[0] in ("liger_kernel", missing)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)  # what an absent package looks like to import
    assert "pip install liger-kernel" in why_not_liger(torch.device("cuda"))


@pytest.mark.parametrize("hidden", [(), ("liger_kernel", "triton")], ids=["installed", "not installed"])
def test_the_flag_is_never_fatal(tiny_checkpoint, tmp_path, hidden):
    """train.py --use_liger_kernel True on a CPU: one warning, and a run; also where the packages are not there."""
    blocked = "".join(f"sys.modules[{name!r}] = None; " for name in hidden)
    code = f"import sys; {blocked}import train; from utils.errors import run_command; run_command(train.main)"
    flags = train_flags(
        tiny_checkpoint, make_annotations(tmp_path, 2), tmp_path / "run",
        "--use_liger_kernel", True, "--max_steps", 1, "--save_strategy", "no",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code, *flags], cwd=ROOT, env=environment(), text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("--use_liger_kernel True") == 1 and "runs without it" in done.stderr
    assert json.loads((tmp_path / "run" / "train_summary.json").read_text())["steps"] == 1


def test_ligers_kernels_are_right_in_tritons_interpreter():
    """The real kernels, run by Triton's interpreter on a CPU: each as written down, and the whole model's loss."""
    command = [sys.executable, "-m", "tests.operations"]
    done = subprocess.run(command, cwd=ROOT, env=environment(TRITON_INTERPRET=1), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    compared = ["rms_norm", "silu_mul", "rotate", "layer_norm", "model"]
    assert [line for line in done.stdout.splitlines() if line in compared] == compared
