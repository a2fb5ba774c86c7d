"""train.py on a tiny random model: the published flags, logs, checkpoints, kill and resume, bad samples."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

import train
from data.loading.order import SampleOrder
from models.training import checkpoints
from models.training.optimizer import is_muon_matrix
from tests.samples import stream, talk, write_media, write_samples
from tests.training import ROOT, SIX_STEPS, SMALL, log_of, losses, train_flags
from tests.watched import watched_trainer
from utils.arguments import parse_arguments
from utils.errors import UserError

pytestmark = pytest.mark.usefixtures("small")


@pytest.fixture(scope="module")
def annotations(tmp_path_factory) -> Path:
    """Twelve samples: streams of words over two videos, images with a question, and text alone."""
    folder = write_media(tmp_path_factory.mktemp("annotations"))
    samples = [stream(i) for i in range(6)] + [talk(i, "pitch.png") for i in range(4)] + [talk(i) for i in range(2)]
    return write_samples(folder / "mix.jsonl", samples)


@pytest.fixture
def run(tiny_checkpoint, annotations, monkeypatch):
    """Run train.py in this process; return output_dir."""

    def run_train(output_dir: Path, *flags: object, data: Path = annotations, model: Path = tiny_checkpoint) -> Path:
        monkeypatch.setattr(sys, "argv", ["train.py", *train_flags(model, data, output_dir, *flags)])
        train.main()
        return output_dir

    return run_train


@pytest.fixture(scope="module")
def published_run(tiny_checkpoint, annotations, tmp_path_factory):
    """scripts/pt_local.sh, with the flags of the published command, on one CPU process; and what it said."""
    output_dir = tmp_path_factory.mktemp("published") / "run"
    settings = {"NPROC": 1, "MODEL": tiny_checkpoint, "DATA": annotations, "OUTPUT": output_dir, "DEEPSPEED": ""}
    settings |= {"ACCUMULATION": 2, "WORKERS": 1, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment = {**os.environ, **SMALL, **{name: str(value) for name, value in settings.items()}}
    arguments = ["bash", "scripts/pt_local.sh", "--report_to", "none", "--logging_steps", "1", "--save_steps", "3"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return output_dir, done.stderr


@pytest.mark.parametrize(("name", "rate", "n_files"), [("pt", 2e-5, 1), ("sft", 1e-5, 5)])
def test_the_scripts_give_the_published_flags(tmp_path, name, rate, n_files):
    """What torchrun would be called with, taken down by a stand-in."""
    (tmp_path / "torchrun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "torchrun").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    call = ["bash", f"scripts/{name}_local.sh"]
    said = subprocess.run(call, env=environment, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    *launch, deepspeed = said.splitlines()[:5]
    assert launch == ["--standalone", "--nproc_per_node=8", "train.py", "--deepspeed"] and (ROOT / deepspeed).is_file()
    _, data_args, args = parse_arguments(
        train.ModelArguments, train.DataArguments, train.TrainArguments, description="", argv=said.splitlines()[5:]
    )
    assert args.learning_rate == rate and len(data_args.annotation_paths) == n_files
    assert args.gradient_accumulation_steps == 64 and args.get_warmup_steps(1000) == 30
    assert args.report_to == ["wandb"] and args.freeze_modules == ["visual"] and not args.overwrite_output_dir


def test_the_published_flags_work(published_run):
    output_dir, said = published_run
    log = log_of(output_dir)
    assert [entry["step"] for entry in log] == [1, 2, 3, 4, 5, 6]
    assert log[-1]["epoch"] == 1.0 and log[-1]["samples_seen"] == 12 and log[-1]["skipped_samples"] == 0
    assert all(entry[name] > 0 for entry in log for name in ("tokens_per_second", "grad_norm", "supervised_tokens"))
    assert log[-1]["visual_tokens"] > 0 and log[0]["learning_rate"] == 0.0
    assert all(np.isfinite(entry["loss"]) for entry in log)
    for flag in ("--tf32 True", "--use_liger_kernel True") if not torch.cuda.is_available() else ():
        assert said.count(flag) == 1
    assert "FutureWarning" not in said


def test_reports_are_written(published_run):
    output_dir, _ = published_run
    summary = json.loads((output_dir / "train_summary.json").read_text())
    assert summary["steps"] == 6 and summary["samples"] == 12 and summary["trained_parameters"] < summary["parameters"]
    assert summary["cpu_seconds"] > 0 and summary["wall_seconds"] > 0
    report = json.loads((output_dir / "bad_samples.json").read_text())
    assert report["bad_samples"] == 0 and report["counts_in_good_samples"]["steps"] > 0


@pytest.mark.parametrize("folder", [".", "checkpoint-3", "checkpoint-6"])
def test_checkpoints_are_complete(published_run, folder):
    path = published_run[0] / folder
    processor = AutoProcessor.from_pretrained(path)
    model = Qwen2VLForConditionalGeneration.from_pretrained(path)
    assert model.config.architectures == ["Qwen2VLForConditionalGeneration"]
    assert model.config.position_mode == "mrope" and model.config.video_limits["min_pixels"] == 784
    assert processor.tokenizer.convert_tokens_to_ids("<|im_end|>") in model.generation_config.eos_token_id
    assert "im_start" in processor.chat_template and processor.image_processor and processor.video_processor
    assert "use_cache" not in vars(model.config) and model.config.text_config.use_cache


def test_frozen_tower_is_unchanged_and_the_rest_is_trained(published_run, tiny_checkpoint):
    before, after = (
        Qwen2VLForConditionalGeneration.from_pretrained(p).state_dict() for p in (tiny_checkpoint, published_run[0])
    )
    for name in before:
        assert torch.equal(before[name], after[name]) == (".visual." in name), name


def test_a_frozen_tower_stays_outside_autograd_under_checkpointing(tiny_checkpoint, annotations, tmp_path, monkeypatch):
    seen = {}

    class Watched(train.CommentaryTrainer):
        def __init__(self, checkpoint, *rest):
            tower = checkpoint.model.model.visual
            for name in ("blocks.0.norm1", "blocks.1.mlp", "merger"):
                tower.get_submodule(name).register_forward_hook(
                    lambda module, inputs, output, name=name: seen.update({name: output.requires_grad})
                )
            super().__init__(checkpoint, *rest)

    monkeypatch.setattr(train, "CommentaryTrainer", Watched)
    flags = [
        *SIX_STEPS,
        "--freeze_modules",
        "visual",
        "--gradient_checkpointing",
        "True",
        "--save_strategy",
        "no",
    ]
    words = train_flags(tiny_checkpoint, annotations, tmp_path / "run", *flags)
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    train.main()
    assert seen == {"blocks.0.norm1": False, "blocks.1.mlp": False, "merger": False}


@pytest.fixture
def seen(monkeypatch) -> Counter:
    """What the runs of a test did (tests/watched.py)."""
    counts = Counter()
    monkeypatch.setattr(train, "CommentaryTrainer", watched_trainer(counts))
    return counts


def test_checkpointing_computes_layers_twice_and_changes_no_loss(run, seen, tmp_path):
    plain = run(tmp_path / "plain", *SIX_STEPS)
    assert seen["layer"] == seen["batches"] == 6 and seen["samples"] == 12
    seen.clear()
    checkpointed = run(tmp_path / "checkpointed", *SIX_STEPS, "--gradient_checkpointing", "True")
    assert seen["layer"] == 2 * seen["batches"] == 12
    np.testing.assert_allclose(losses(plain), losses(checkpointed), rtol=1e-5)


def test_bf16_computes_in_bfloat16_and_keeps_weights_in_float32(run, seen, tmp_path):
    flags = [*SIX_STEPS, "--max_steps", 2, "--save_steps", 2]
    plain = run(tmp_path / "plain", *flags)
    assert seen["torch.float32"] == seen["layer"] == 2
    half = run(tmp_path / "half", *flags, "--bf16", "True")
    assert seen["torch.bfloat16"] == 2 and seen["torch.float32"] == 2
    first, other = (losses(folder)[0][1] for folder in (plain, half))
    assert first != other and first == pytest.approx(other, rel=0.02)
    assert Qwen2VLForConditionalGeneration.from_pretrained(half).dtype == torch.float32
    ran = [json.loads((folder / "train_summary.json").read_text())["ran"] for folder in (plain, half)]
    assert [one["computed_in"] for one in ran] == ["float32", "bfloat16"]
    assert ran[0]["engine"] == "StreamingQwen2VL" and ran[0]["attention"] == "sdpa" and not ran[0]["liger"]


def test_muon_takes_the_matrices_of_the_blocks(run, tmp_path):
    """Seen in the checkpoint: Muon keeps one buffer, AdamW two moments and a step."""
    output_dir = run(tmp_path / "run", "--max_steps", 1, "--save_steps", 1, "--muon_learning_rate", 0.02)
    saved = torch.load(output_dir / "checkpoint-1" / "optimizer.pt")
    kept = Counter(" ".join(sorted(state)) for state in saved["state"].values())
    model = Qwen2VLForConditionalGeneration.from_pretrained(output_dir)
    n_matrices = sum(is_muon_matrix(name, p) for name, p in model.named_parameters())
    assert kept["momentum_buffer"] == n_matrices > 10 and kept["exp_avg exp_avg_sq step"] == kept.total() - n_matrices
    rates = [group["initial_lr"] for group in saved["param_groups"]]
    assert rates == [1e-3] * (len(rates) - 1) + [0.02]


@pytest.mark.parametrize("extra", [[], ["--muon_learning_rate", "0.02"]], ids=["adamw", "muon"])
def test_a_killed_run_goes_on_as_if_it_had_not_been(run, tiny_checkpoint, annotations, tmp_path, extra):
    flags = [*SIX_STEPS, "--max_steps", 18, "--save_steps", 3, *extra]
    whole = run(tmp_path / "whole", *flags, "--dataloader_num_workers", 2)
    cut = tmp_path / "cut"
    kill_at_step(8, [sys.executable, "train.py", *train_flags(tiny_checkpoint, annotations, cut, *flags)], cut)
    assert losses(cut)[-1][0] < 18
    (cut / "checkpoint-999").mkdir()  # as a kill half-way through a save leaves it
    run(cut, *flags)
    assert losses(cut) == losses(whole)
    summaries = [json.loads((path / "train_summary.json").read_text()) for path in (whole, cut)]
    assert summaries[0]["tokens"] == summaries[1]["tokens"]
    weights = [Qwen2VLForConditionalGeneration.from_pretrained(path).state_dict() for path in (whole, cut)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def kill_at_step(step: int, arguments: list[str], output_dir: Path) -> None:
    log = output_dir / "train_log.jsonl"
    deadline = time.monotonic() + 240
    with subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            while not log.exists() or log.read_text().count("\n") < step:
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline, f"not at step {step} in time"
                time.sleep(0.002)
        finally:
            process.send_signal(signal.SIGKILL)


def test_a_finished_run_is_left_as_it_is(run, tmp_path, caplog):
    once = run(tmp_path / "run", *SIX_STEPS)
    weights = Qwen2VLForConditionalGeneration.from_pretrained(once).state_dict()
    before = losses(once)
    run(once, *SIX_STEPS)
    again = Qwen2VLForConditionalGeneration.from_pretrained(once).state_dict()
    assert "already trained" in caplog.text and losses(once) == before
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_overwrite_starts_over_and_says_so(run, tmp_path, caplog):
    once = run(tmp_path / "run", *SIX_STEPS)
    (once / "checkpoint-notes").mkdir()
    before = losses(once)
    run(once, *SIX_STEPS, "--overwrite_output_dir", "True")
    (aside,) = once.glob("old-*")
    assert "checkpoint-6, bad_samples.json" in caplog.text and str(aside) in caplog.text
    assert losses(once) == losses(aside) == before and (once / "checkpoint-notes").is_dir()
    assert sorted(checkpoints.read_marks(aside)) == sorted(checkpoints.read_marks(once)) == [2, 4, 6]


def test_overwrite_does_not_remove_the_model_it_starts_from(run, tmp_path):
    once = run(tmp_path / "run", *SIX_STEPS)
    with pytest.raises(UserError, match="from which this run starts"):
        run(once, *SIX_STEPS, "--overwrite_output_dir", "True", model=once / "checkpoint-4")
    assert sorted(checkpoints.read_marks(once)) == [2, 4, 6]


def test_save_total_limit_keeps_the_last_complete_ones(run, tmp_path):
    once = run(tmp_path / "run", *SIX_STEPS, "--save_total_limit", 2)
    assert sorted(checkpoints.read_marks(once)) == [4, 6]


def test_resume_from_an_incomplete_checkpoint_is_refused(run, tmp_path):
    once = run(tmp_path / "run", *SIX_STEPS)
    checkpoints.unmark(once / "checkpoint-4")
    with pytest.raises(UserError, match="not a complete checkpoint"):
        run(once, *SIX_STEPS, "--resume_from_checkpoint", once / "checkpoint-4")


def test_bad_samples_are_replaced_and_reported(run, tmp_path, annotations):
    lines = annotations.read_text().splitlines()
    lines[3:3] = [json.dumps(stream(0)).replace("match.mp4", "gone.mp4")]
    data = annotations.with_name("some_bad.jsonl")
    data.write_text("\n".join(lines) + "\n")
    output_dir = run(tmp_path / "run", *SIX_STEPS, "--max_bad_samples", 0.2, "--num_train_epochs", 2, data=data)
    report = json.loads((output_dir / "bad_samples.json").read_text())
    assert report["by_cause"] == {"missing_file": 1} and report["samples"][0]["line_no"] == 4
    assert log_of(output_dir)[-1]["samples_seen"] == 12


def test_too_many_bad_samples_stop_the_run_with_a_report(run, tmp_path, annotations):
    data = annotations.with_name("all_bad.jsonl")
    data.write_text("{}\n[]\nnothing\n")
    with pytest.raises(UserError, match=r"3 of 3 samples could not be used.*all_bad.jsonl:\d"):
        run(tmp_path / "run", *SIX_STEPS, data=data)
    report = json.loads((tmp_path / "run" / "bad_samples.json").read_text())
    assert report["stopped_the_run"] and report["bad_samples"] == 3


def test_empty_queries_are_warned_of(run, tmp_path, annotations, caplog):
    silent = [stream(i) for i in range(3)]
    for sample in silent:
        sample[0]["content"][1]["text"] = ""
    data = write_samples(annotations.with_name("silent.jsonl"), silent)
    flags = ["--max_steps", 1, "--save_strategy", "no"]
    run(tmp_path / "off", *flags, data=data)
    assert re.search(r"silent.jsonl: the first 3 streams have an empty query; --with_context True", caplog.text)
    caplog.clear()
    run(tmp_path / "on", *flags, "--with_context", "True", data=data)
    run(tmp_path / "queries", *flags)
    assert "empty query" not in caplog.text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--freeze_modules", "vision"],
            "vision: no such part; choose from visual, merger, language_model, lm_head",
        ),
        (["--freeze_modules", "visual", "language_model", "lm_head"], "freezes every parameter"),
        (["--eval_strategy", "steps"], "only no is offered"),
        (["--do_train", "False"], "nothing to do"),
        (["--warmup_ratio", "3"], "between 0 and 1"),
        (["--deepspeed", "scripts/none.json"], "no such file"),
        (["--deepspeed", "scripts/deepspeed_zero2.json"], "torchrun"),
        (
            ["--deepspeed", "scripts/deepspeed_zero2.json", "--muon_learning_rate", "0.02"],
            "leave one of them out",
        ),
    ],
)
def test_impossible_flags_are_refused(run, tmp_path, flags, message, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UserError, match=message):
        run(tmp_path / "run", *SIX_STEPS, *flags)


@pytest.mark.parametrize(
    ("names", "trained"),
    [
        (["merger"], {"patch_embed", "blocks", "language_model", "lm_head"}),
        (["visual"], {"language_model", "lm_head"}),
        (["language_model"], {"patch_embed", "blocks", "merger", "lm_head"}),
        (["lm_head"], {"patch_embed", "blocks", "merger", "language_model"}),
    ],
)
def test_freeze_modules_freezes_what_it_names(tiny_checkpoint, names, trained):
    from models.training.trainer import freeze_modules

    model = Qwen2VLForConditionalGeneration.from_pretrained(tiny_checkpoint)
    freeze_modules(model, names)
    parts = ("patch_embed", "blocks", "merger", "language_model", "lm_head")
    found = {part for name, p in model.named_parameters() if p.requires_grad for part in parts if part in name}
    assert found == trained


def test_data_order_follows_the_seed(run, tmp_path):
    flags = ["--max_steps", 3, "--save_steps", 3, "--per_device_train_batch_size", 1, "--data_seed", 5]
    output_dir = run(tmp_path / "run", *flags)
    state = json.loads((output_dir / "checkpoint-3" / "data_state_rank0.json").read_text())["loader"]
    assert SampleOrder(**state["order"]) == SampleOrder(12, 5) and state["position"] == 3


def test_wandb_without_an_account_stays_offline(run, tmp_path, monkeypatch, wandb_folder, caplog):
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    flags = ["--max_steps", 2, "--save_strategy", "no", "--report_to", "wandb", "--run_name", "offline"]
    run(tmp_path / "run", *flags)
    assert caplog.text.count("kept offline") == 1 and list(wandb_folder.glob("offline-run-*"))
