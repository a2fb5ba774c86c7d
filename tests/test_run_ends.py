"""How a training run ends before its end: signals, losses that are no numbers, flags and trackers that cannot work."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train
from models.training import checkpoints, run_log
from tests.samples import talk, write_samples
from tests.training import losses, train_flags
from utils.errors import UserError

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def annotations(tmp_path_factory) -> Path:
    return write_samples(tmp_path_factory.mktemp("annotations") / "talk.jsonl", [talk(i) for i in range(6)])


@pytest.fixture
def run(tiny_checkpoint, annotations, tmp_path, monkeypatch):
    """Run train.py in this process, in a folder of this name; return its status."""

    def run_train(to: str, *flags: object) -> int:
        words = train_flags(tiny_checkpoint, annotations, tmp_path / to, "--per_device_train_batch_size", 2, *flags)
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        return train.main()

    return run_train


def at_step(monkeypatch, step: int, act) -> None:
    """Call act(trainer, loss) -> loss in place of the loss of this step and later ones."""

    class Changed(train.CommentaryTrainer):
        def compute_loss(self, *rest, **options):
            loss = super().compute_loss(*rest, **options)
            return act(self, loss) if self.state.global_step + 1 >= step else loss

    monkeypatch.setattr(train, "CommentaryTrainer", Changed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_at_the_end_of_the_step(run, tmp_path, monkeypatch, caplog, number):
    flags = ["--max_steps", 4, "--save_steps", 100]
    assert run("whole", *flags) == 0
    handlers = signal.getsignal(number)
    with monkeypatch.context() as patch:
        at_step(patch, 2, lambda trainer, loss: os.kill(os.getpid(), number) or loss)
        assert run("cut", *flags) == 128 + number
    assert signal.getsignal(number) is handlers
    assert f"ended by {number.name} after step 2 of 4, saved in {tmp_path / 'cut' / 'checkpoint-2'}" in caplog.text
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    assert run("cut", *flags) == 0
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_signal_to_the_group_leaves_the_workers_to_their_owner(run, tmp_path, monkeypatch):
    def signal_all(trainer, loss):
        workers = [worker.pid for worker in trainer.loader._stream._workers]
        subprocess.run(["kill", "-TERM", *map(str, [*workers, os.getpid()])], check=True)  # of another process
        return loss

    at_step(monkeypatch, 2, signal_all)
    assert run("run", "--max_steps", 4, "--dataloader_num_workers", 1) == 143
    assert (tmp_path / "run" / "checkpoint-2" / "complete.json").is_file()


def test_a_loss_that_is_no_number_is_skipped(run, tmp_path, monkeypatch, caplog):
    at_step(monkeypatch, 2, lambda trainer, loss: loss * float("nan") if trainer.state.global_step == 1 else loss)
    run("run", "--max_steps", 3, "--save_steps", 1)
    assert "step 2: gradients not finite (samples " in caplog.text and "talk.jsonl:" in caplog.text
    assert sorted(checkpoints.read_marks(tmp_path / "run")) == [1, 3]
    weights = [torch.load(tmp_path / "run" / f"checkpoint-{step}" / "optimizer.pt") for step in (1, 3)]
    assert all(state["exp_avg"].isfinite().all() for state in weights[1]["state"].values())
    summary = json.loads((tmp_path / "run" / "train_summary.json").read_text(), parse_constant=pytest.fail)
    assert summary["skipped_steps"] == 1


def test_several_in_a_row_end_the_run_and_keep_the_good_checkpoint(run, tmp_path, monkeypatch):
    at_step(monkeypatch, 3, lambda trainer, loss: loss * float("inf"))
    with pytest.raises(UserError, match=r"step 4: .* not finite \(samples .*talk.jsonl:\d.*2 updates in a row"):
        run("run", "--max_steps", 9, "--save_steps", 1, "--save_total_limit", 1, "--max_skipped_steps", 2)
    assert sorted(checkpoints.read_marks(tmp_path / "run")) == [2]


def test_weights_that_are_no_numbers_are_not_saved(run, tmp_path, monkeypatch):
    def spoil(trainer, loss):
        trainer.model.lm_head.weight.data[0, 0] = float("nan")
        return loss.detach() * 0 + sum(p.sum() * 0 for p in trainer.model.model.visual.parameters())

    at_step(monkeypatch, 2, spoil)
    with pytest.raises(UserError, match="weights are not finite any more"):
        run("run", "--max_steps", 2, "--save_steps", 1, "--save_total_limit", 1)
    assert sorted(checkpoints.read_marks(tmp_path / "run")) == [1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--enable_jit_checkpoint", "True"], "mid-update"),
        (["--train_sampling_strategy", "sequential"], "resumes exactly"),
        (["--report_to", "tensorbord"], "--report_to tensorbord: give none, all, or of tensorboard, wandb"),
        (["--report_to", "mlflow"], "give none, all"),
        (["--max_skipped_steps", 0], "at least 1"),
        (["--signal_grace_s", -1], "above 0"),
    ],
)
def test_flags_that_do_harm_are_refused(run, tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        run("run", *flags)
    assert not (tmp_path / "run").exists()


def test_fp16_on_a_cpu_is_refused(run):
    with pytest.raises(UserError, match="no effect on a CPU"):
        run("run", "--fp16", "True")


def test_two_trackers_are_taken(run, tmp_path, wandb_folder, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run("run", "--max_steps", 1, "--save_strategy", "no", "--report_to", "tensorboard", "wandb")
    assert list(wandb_folder.glob("offline-run-*")) and list((tmp_path / "run").rglob("events.out.tfevents*"))


def test_wandb_without_a_network_goes_on_offline(monkeypatch, caplog):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    run_log.prepare_reporting(["wandb"])
    assert os.environ.pop("WANDB_MODE") == "offline" and "no answer from http://127.0.0.1:9" in caplog.text
