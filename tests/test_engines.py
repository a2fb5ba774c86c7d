"""The real engines on two CPU processes: DDP, DeepSpeed ZeRO-2 and ZeRO-3: what ran, equal losses, resume, export.

FSDP2 trains on GPUs only: here, what it makes of the model, and one update of it.
"""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2VLForConditionalGeneration

from models.load import load_checkpoint
from models.training.train_arguments import TrainArguments
from tests.training import (
    ROOT,
    build_deepspeed_extension,
    environment,
    losses,
    make_annotations,
    run,
    torchrun,
    train_flags,
)
from utils.errors import UserError

ENGINES = {
    "ddp": [],
    "zero2": ["--deepspeed", "./scripts/deepspeed_zero2.json"],
    "zero3": ["--deepspeed", "./scripts/deepspeed_zero3.json"],
}
# What then is around the model, and DeepSpeed's stage.
KINDS = {"ddp": ("DistributedDataParallel", 0), "zero2": ("DeepSpeedEngine", 2), "zero3": ("DeepSpeedEngine", 3)}
FSDP2 = ["--fsdp", "True", "--fsdp_config", "scripts/fsdp2.json"]
EVERY_ENGINE = [pytest.param(name, marks=[pytest.mark.slow] if name == "zero3" else []) for name in ENGINES]
STEPS, SAVE_STEPS = 10, 4
FLAGS = ["--max_steps", STEPS, "--save_steps", SAVE_STEPS, "--per_device_train_batch_size", 1]
FLAGS += ["--freeze_modules", "visual", "--gradient_checkpointing", "True"]


@pytest.fixture(scope="session")
def streams(tmp_path_factory) -> Path:
    return make_annotations(tmp_path_factory.mktemp("streams"))


class Runs:
    """One run of each engine, made when it is first asked for."""

    def __init__(self, model: Path, data: Path, folder: Path) -> None:
        self.model, self.data, self.folder = model, data, folder

    def flags(self, engine: str, output_dir: Path) -> list[str]:
        return train_flags(self.model, self.data, output_dir, *FLAGS, *ENGINES[engine])

    def of(self, engine: str) -> Path:
        output_dir = self.folder / engine
        if not output_dir.exists():
            run(torchrun(2, *self.flags(engine, output_dir)))
        return output_dir

    def alone(self) -> Path:
        """One process that accumulates what two processes see."""
        output_dir = self.folder / "alone"
        if not output_dir.exists():
            flags = train_flags(self.model, self.data, output_dir, *FLAGS, "--gradient_accumulation_steps", 2)
            run([sys.executable, "train.py", *flags])
        return output_dir


@pytest.fixture(scope="module")
def all_runs(tiny_checkpoint, streams, tmp_path_factory) -> Runs:
    return Runs(tiny_checkpoint, streams, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def runs(all_runs, engine) -> Runs:
    """The runs, for a test of one engine: what that engine needs is built."""
    if engine.startswith("zero"):
        build_deepspeed_extension()
    return all_runs


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_engines_agree_with_one_process_that_accumulates(runs, engine):
    expected, found = losses(runs.alone()), losses(runs.of(engine))
    assert [step for step, *_ in found] == list(range(1, STEPS + 1))
    np.testing.assert_allclose([loss for _, loss, _ in found], [loss for _, loss, _ in expected], rtol=1e-4)
    np.testing.assert_allclose([norm for *_, norm in found], [norm for *_, norm in expected], rtol=1e-3)
    assert found[-1][1] < 0.9 * found[0][1]
    summaries = [json.loads((path / "train_summary.json").read_text()) for path in (runs.alone(), runs.of(engine))]
    counted = ("parameters", "trained_parameters", "samples", "tokens", "supervised_tokens", "visual_tokens")
    assert [summaries[0][name] for name in counted] == [summaries[1][name] for name in counted]


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_the_engine_that_was_asked_for_ran(runs, engine):
    """Its object is around the model; of weights and optimizer state each process holds what that engine promises."""
    summary = json.loads((runs.of(engine) / "train_summary.json").read_text())
    ran, trained = summary["ran"], summary["trained_parameters"]
    assert trained < summary["parameters"] and summary["processes"] == 2
    assert ran["computed_in"] == "float32" and ran["attention"] == "sdpa" and not ran["liger"]
    assert (ran["engine"], ran["zero_stage"]) == KINDS[engine]
    # Two moments of each trained weight; DeepSpeed pads its parts.
    moments = 2 * trained if engine == "ddp" else trained
    assert moments <= ran["optimizer_state_held"] < 1.02 * moments
    weights = summary["parameters"] / 2 if engine == "zero3" else summary["parameters"]
    assert weights <= ran["parameters_held"] < 1.02 * weights


def test_fsdp2_splits_the_model_and_computes_the_same(tiny_checkpoint, tied_checkpoint, tmp_path):
    """accelerate's own preparation on two processes, a head of its own and one that is the embedding."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    result = tmp_path / "result.json"
    run([*launch, "tests/fsdp_ranks.py", str(result), str(tiny_checkpoint), str(tied_checkpoint)])
    found = json.loads(result.read_text())
    assert [one["tied"] for one in found] == [False, True]
    for one in found:
        layers = [f"model.language_model.layers.{i}" for i in range(2)]
        assert {"", *layers, "lm_head"} <= set(one["units"]) and one["not_split"] == []
        assert one["losses"][1] == pytest.approx(one["losses"][0], rel=1e-6)
        assert one["gradients_differ_by"] < 1e-5 and one["weights_differ_by"] < 1e-3 < 1e-2 < one["moved_by"]
        ran = one["record"]
        assert (
            ran["engine"].startswith("FSDP")
            and one["parameters"] / 2 <= ran["parameters_held"] < 0.51 * one["parameters"]
        )
        assert one["trained"] <= ran["optimizer_state_held"] < 1.02 * one["trained"]


def test_fsdp_is_refused_where_the_library_would_run_ddp(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(UserError, match=r"would train with DDP in its place.*deepspeed_zero3.json"):
        TrainArguments(output_dir=str(tmp_path), use_cpu=True, fsdp="True", fsdp_config=FSDP2[-1])


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_checkpoints_of_engines_load_everywhere(runs, engine):
    for folder in (runs.of(engine), runs.of(engine) / f"checkpoint-{STEPS}"):
        model, report = Qwen2VLForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
        assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        assert model.dtype == torch.float32 and list(folder.glob("*.safetensors"))
        assert load_checkpoint(folder).position_mode == "mrope"
    assert same_weights(runs.of(engine), runs.of(engine) / f"checkpoint-{STEPS}")
    assert not same_weights(runs.of(engine), runs.model)


@pytest.mark.parametrize("engine", EVERY_ENGINE)
def test_a_resumed_run_repeats_its_steps(runs, engine, tmp_path):
    """From the checkpoint in the middle: digit for digit what the run that was not interrupted gave."""
    whole, cut = runs.of(engine), tmp_path / "cut"
    shutil.copytree(whole, cut)
    for later in (cut / f"checkpoint-{2 * SAVE_STEPS}", cut / f"checkpoint-{STEPS}"):
        shutil.rmtree(later)
    for weights in cut.glob("*.safetensors"):
        weights.unlink()
    run(torchrun(2, *runs.flags(engine, cut)))
    assert losses(cut) == losses(whole)
    assert same_weights(cut, whole)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["zero2"])
def test_a_killed_run_goes_on(runs, engine, tmp_path):
    cut = tmp_path / "cut"
    kill_at_step(6, torchrun(2, *runs.flags(engine, cut)), cut)
    assert losses(cut)[-1][0] < STEPS
    run(torchrun(2, *runs.flags(engine, cut)))
    assert losses(cut) == losses(runs.of(engine)) and same_weights(cut, runs.of(engine))


@pytest.mark.parametrize("engine", ["zero2"])
def test_a_finished_run_gives_its_last_checkpoint_again(runs, engine, tmp_path):
    whole, again = runs.of(engine), tmp_path / "again"
    shutil.copytree(whole, again)
    (again / "model.safetensors").unlink()
    said = run(torchrun(2, *runs.flags(engine, again)))
    assert "already trained" in said and same_weights(again, whole) and losses(again) == losses(whole)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fsdp", "True"], "--fsdp_config scripts/fsdp2.json"),
        (["--fsdp", "True", "--fsdp_config", "scripts/none.json"], "no such file"),
        (FSDP2, "torchrun"),
        ([*FSDP2, *ENGINES["zero2"]], "leave one of them out"),
        ([*FSDP2, "--muon_learning_rate", "0.02"], "leave one of them out"),
    ],
)
def test_impossible_engines_are_refused(tmp_path, monkeypatch, flags, message):
    from utils.arguments import parse_arguments

    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match=message):
        parse_arguments(TrainArguments, description="", argv=["--output_dir", str(tmp_path), *flags])


def test_an_environment_whose_path_has_a_space_cannot_build_deepspeed(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "__file__", "/with a space/torch/__init__.py")
    with pytest.raises(UserError, match=r"path of the Python environment has a space, /with a space/torch.*move"):
        TrainArguments(output_dir=str(tmp_path), deepspeed=ENGINES["zero2"][1])


@pytest.mark.parametrize("engine", ["fsdp2", "zero3"])
def test_sharded_weights_are_saved_once(tmp_path, monkeypatch, engine):
    """On several nodes with folders of their own, all but the first would save nothing."""
    monkeypatch.setattr("models.training.train_arguments.why_no_deepspeed_build", lambda: None)
    monkeypatch.setattr("transformers.TrainingArguments.__post_init__", lambda args: None)
    monkeypatch.setattr(TrainArguments, "_use_one_gpu_a_process", lambda args: None)
    monkeypatch.setattr(TrainArguments, "zero_stage", 3 if engine == "zero3" else 0)
    for name, value in {"LOCAL_RANK": 0, "WORLD_SIZE": 16, "LOCAL_WORLD_SIZE": 8}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(TrainArguments, "_check_fsdp_device", lambda args: None)
    words = FSDP2[1::2] if engine == "fsdp2" else ENGINES[engine][1::2]
    flags = dict(zip(("fsdp", "fsdp_config") if engine == "fsdp2" else ("deepspeed",), words, strict=True))
    TrainArguments(output_dir=str(tmp_path), save_on_each_node=False, **flags)
    with pytest.raises(UserError, match="give --save_on_each_node False"):
        TrainArguments(output_dir=str(tmp_path), save_on_each_node=True, **flags)


def same_weights(one: Path, other: Path) -> bool:
    first, second = (Qwen2VLForConditionalGeneration.from_pretrained(path).state_dict() for path in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


def kill_at_step(step: int, command: list[str], output_dir: Path) -> None:
    """SIGKILL for torchrun and all its processes once a step is in the log."""
    log, deadline = output_dir / "train_log.jsonl", time.monotonic() + 240
    with subprocess.Popen(command, cwd=ROOT, env=environment(), start_new_session=True) as launcher:
        try:
            while not log.exists() or log.read_text().count("\n") < step:
                assert launcher.poll() is None and time.monotonic() < deadline
                time.sleep(0.002)
        finally:
            kill_tree(launcher.pid)


def kill_tree(pid: int) -> None:
    """torchrun's workers lead sessions of their own."""
    import psutil

    family = [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]
    for process in family:
        process.send_signal(signal.SIGKILL)
