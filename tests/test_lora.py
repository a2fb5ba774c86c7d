"""LoRA: which layers get adapters, training and exact resume, and merged weights that say what the adapters said."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoProcessor, Qwen2VLForConditionalGeneration

import train
from models.load import load_checkpoint
from models.training.lora import LoraArguments, add_adapters, check_together, merge, quantization, target_layers
from models.training.train_arguments import TrainArguments
from scripts import merge_lora
from tests.training import ROOT, environment, losses, make_annotations, run, torchrun, train_flags
from utils.errors import UserError

RUN = ["--lora_rank", 4, "--lora_dropout", 0.1, "--max_steps", 6, "--save_steps", 3]
# Besides the matrices, which LoRA leaves alone.
LINEAR_OF_TEXT = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="module")
def streams(tmp_path_factory) -> Path:
    return make_annotations(tmp_path_factory.mktemp("streams"), n_samples=12)


@pytest.fixture
def trained(tiny_checkpoint, streams, small, monkeypatch):
    """Run train.py with adapters in this process; its output_dir."""

    def run_train(output_dir: Path, *flags: object) -> Path:
        words = train_flags(tiny_checkpoint, streams, output_dir, *RUN, *flags)
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        train.main()
        return output_dir

    return run_train


@pytest.fixture
def model(tiny_checkpoint):
    return load_checkpoint(tiny_checkpoint, device="cpu").model


def train_arguments(tmp_path: Path, **changed: object) -> TrainArguments:
    return TrainArguments(output_dir=str(tmp_path), report_to=[], **changed)


def test_adapters_are_the_text_models_and_alone_trained(model, tmp_path):
    adapters = add_adapters(model, LoraArguments(lora_rank=4), train_arguments(tmp_path))
    trained = [name for name, p in adapters.named_parameters() if p.requires_grad]
    assert trained and all(".language_model." in name and ".lora_" in name for name in trained)
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trained} == LINEAR_OF_TEXT
    config = adapters.peft_config["default"]
    assert (config.r, config.lora_alpha) == (4, 8)


def test_the_tower_gets_adapters_only_by_name(model):
    both = target_layers(model, ["q_proj", "qkv", "merger.mlp.0"], [])
    assert {name.rpartition(".")[2] for name in both} == {"q_proj", "qkv", "0"}
    assert "model.visual.merger.mlp.0" in both and "model.visual.patch_embed.proj" not in target_layers(
        model, ["proj"], []
    )


def test_qlora_spares_the_tower_and_the_head(model):
    """By the library's own rule for the names of what stays as it is."""
    from transformers.quantizers.quantizers_utils import should_convert_module

    skipped = quantization(LoraArguments(lora_rank=4, lora_bits=4)).llm_int8_skip_modules
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    kept = [name for name in linear if not should_convert_module(name, skipped)]
    assert kept == [name for name in linear if ".visual." in name or name == "lm_head"]
    assert len(kept) > 8 and len(linear) - len(kept) == 7 * len(model.model.language_model.layers)


def test_ligers_operations_leave_adapters_in_place(model, tmp_path):
    """Exchanged modules hold the adapted layers, so the text model says the same and trains the same adapters."""
    from models.training.liger import exchange_all
    from tests.operations import WRITTEN_DOWN

    lora = LoraArguments(lora_rank=4, lora_targets=["q_proj", "gate_proj", "down_proj"])
    adapters = add_adapters(model, lora, train_arguments(tmp_path))
    for name, parameter in adapters.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(len(name)))
    ids, positions = torch.arange(12).view(1, 12), torch.arange(36).view(3, 1, 12) % 7
    names = [name for name, p in adapters.named_parameters() if p.requires_grad]
    before = adapters(input_ids=ids, position_ids=positions).logits
    exchange_all(model, WRITTEN_DOWN)
    torch.testing.assert_close(adapters(input_ids=ids, position_ids=positions).logits, before, rtol=1e-4, atol=1e-4)
    assert [name for name, p in adapters.named_parameters() if p.requires_grad] == names


def test_adapters_start_from_the_seed(tiny_checkpoint, tmp_path):
    def first(seed: int) -> torch.Tensor:
        model = load_checkpoint(tiny_checkpoint, device="cpu").model
        torch.rand(seed + 3)  # whatever was drawn before
        adapters = add_adapters(model, LoraArguments(lora_rank=4), train_arguments(tmp_path, seed=seed))
        return next(p for name, p in adapters.named_parameters() if "lora_A" in name)

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))


@pytest.mark.parametrize(
    ("targets", "frozen", "message"),
    [
        (["qproj"], [], "no linear layer of that name; choose from .*down_proj.*q_proj"),
        (["lm_head"], [], "would not be trained"),
        (["q_proj"], ["language_model"], "--freeze_modules language_model and --lora_targets q_proj contradict"),
        (["qkv"], ["visual"], "--freeze_modules visual and --lora_targets qkv contradict"),
        (["merger.mlp.2"], ["merger"], "leave merger out of --freeze_modules, or merger.mlp.2 out of --lora_targets"),
        (["merger.mlp.2"], ["visual"], "contradict"),
    ],
)
def test_impossible_targets_are_refused(model, targets, frozen, message):
    with pytest.raises(UserError, match=message):
        target_layers(model, targets, frozen)


def test_frozen_parts_without_adapters_are_no_contradiction(model):
    assert target_layers(model, ["q_proj"], ["visual", "merger", "lm_head"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"lora_rank": -1}, "at least 1"),
        ({"lora_rank": 4, "lora_dropout": 1.0}, "less than 1"),
        ({"lora_rank": 4, "lora_alpha": 0.0}, "more than 0"),
        ({"lora_rank": 4, "lora_bits": 8}, "4 is offered"),
        ({"lora_bits": 4}, "--lora_bits has no effect without --lora_rank"),
        ({"lora_targets": ["q_proj"]}, "--lora_targets has no effect without --lora_rank"),
    ],
)
def test_impossible_flags_are_refused(flags, message):
    with pytest.raises(UserError, match=message):
        LoraArguments(**flags)


def test_flags_that_contradict_the_run_are_refused(tmp_path):
    with pytest.raises(UserError, match="Muon is for whole matrices"):
        check_together(LoraArguments(lora_rank=4), train_arguments(tmp_path, muon_learning_rate=0.02))
    with pytest.raises(UserError, match="bitsandbytes needs a GPU, and this run is on cpu; leave --lora_bits out"):
        check_together(LoraArguments(lora_rank=4, lora_bits=4), train_arguments(tmp_path, use_cpu=True))


def test_training_changes_the_adapters_alone(trained, tiny_checkpoint, tmp_path):
    output_dir = trained(tmp_path / "run", "--freeze_modules", "visual", "--gradient_checkpointing", True)
    first, *_, last = losses(output_dir)
    assert last[1] < first[1] and all(norm > 0 for *_, norm in losses(output_dir))
    for folder in (output_dir, output_dir / "checkpoint-3"):
        files = {path.name for path in folder.iterdir()}
        assert {"adapter_model.safetensors", "adapter_config.json", "config.json", "tokenizer.json"} <= files
        assert "model.safetensors" not in files
        assert all(".lora_" in name for name in load_file(folder / "adapter_model.safetensors"))
    assert json.loads((output_dir / "config.json").read_text())["video_limits"]["min_pixels"] == 784
    summary = json.loads((output_dir / "train_summary.json").read_text())
    assert 0 < summary["trained_parameters"] < 0.2 * summary["parameters"]
    with pytest.raises(UserError, match=r"merge them with python scripts/merge_lora.py"):
        load_checkpoint(output_dir)


def test_a_resumed_run_repeats_its_steps(trained, tmp_path):
    """Adapters, moments and dropout: what follows the checkpoint is the same, digit for digit."""
    whole, cut = trained(tmp_path / "whole"), tmp_path / "cut"
    trained(cut)
    shutil.rmtree(cut / "checkpoint-6")
    trained(cut)
    assert losses(cut) == losses(whole)
    saved = [load_file(path / "adapter_model.safetensors") for path in (whole, cut)]
    assert saved[0].keys() == saved[1].keys() and all(torch.equal(saved[0][name], saved[1][name]) for name in saved[0])
    before = (cut / "adapter_model.safetensors").read_bytes()
    (cut / "adapter_model.safetensors").unlink()
    trained(cut)  # finished: its last checkpoint is the result
    assert (cut / "adapter_model.safetensors").read_bytes() == before


def logits_of(model, checkpoint, streams) -> torch.Tensor:
    from data.loading.collate import collate
    from data.loading.dataset import DataArguments

    arguments = train.TrainArguments(str(streams.parent / "not_trained"), report_to="none")
    dataset = train.make_dataset(checkpoint, DataArguments(annotation_paths=[str(streams)]), arguments)
    batch = collate([dataset[0], dataset[5]], checkpoint.chat.pad)
    for name in ("labels", "sources"):
        batch.pop(name)
    with torch.no_grad():
        return model(**batch).logits


def test_merged_weights_say_what_the_adapters_said(trained, tiny_checkpoint, streams, tmp_path, capsys):
    from peft import PeftModel

    adapter, out = trained(tmp_path / "run", "--learning_rate", 1e-2), tmp_path / "merged"
    base = load_checkpoint(tiny_checkpoint, device="cpu")
    plain = logits_of(base.model, base, streams)
    expected = logits_of(PeftModel.from_pretrained(base.model, adapter).eval(), base, streams)
    assert (expected - plain).abs().max() > 1e-2  # the adapters say something
    merge_lora.main([str(tiny_checkpoint), str(adapter), str(out)])
    assert "merged into" in capsys.readouterr().out
    merged = load_checkpoint(out, device="cpu")
    torch.testing.assert_close(logits_of(merged.model, merged, streams), expected, rtol=1e-5, atol=1e-5)
    # Its videos are seen as in the training, whatever the base or this environment says.
    assert merged.model.config.video_limits["min_pixels"] == 784

    library, report = Qwen2VLForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    state = merged.model.state_dict()
    assert all(torch.equal(weight, state[name]) for name, weight in library.state_dict().items())
    assert library.config.architectures == ["Qwen2VLForConditionalGeneration"]
    processor = AutoProcessor.from_pretrained(out)
    ids = processor.tokenizer("Red shoots.", return_tensors="pt").input_ids
    positions = torch.arange(ids.shape[1]).expand(3, 1, -1)
    with torch.no_grad():
        theirs = library(input_ids=ids, position_ids=positions).logits
        torch.testing.assert_close(theirs, merged.model(ids, positions).logits, rtol=1e-5, atol=1e-5)


def test_a_merged_model_streams(trained, tiny_checkpoint, tmp_path):
    from models.streaming.options import StreamOptions
    from models.streaming.session import StreamingSession, comment, timed_frames

    out = tmp_path / "merged"
    merge_lora.main([str(tiny_checkpoint), str(trained(tmp_path / "run")), str(out), "--dtype", "bfloat16"])
    config = json.loads((out / "config.json").read_text())
    assert config["dtype"] == "bfloat16" and config["position_mode"] == "mrope"
    session = StreamingSession(load_checkpoint(out, device="cpu"), StreamOptions(max_new_tokens=5))
    frames = torch.randint(0, 256, (10, 3, 56, 84), dtype=torch.uint8)
    assert len(list(comment(session, timed_frames(frames)))) == 3


def test_the_position_mode_is_the_adapters(trained, tiny_checkpoint, tmp_path):
    adapter = trained(tmp_path / "run", "--position_mode", "sequential", "--max_steps", 1)
    assert merge(tiny_checkpoint, adapter).position_mode == "sequential"


def test_merging_refuses_what_does_not_fit(tiny_checkpoint, trained, tmp_path):
    with pytest.raises(UserError, match="no adapter there"):
        merge(tiny_checkpoint, tiny_checkpoint)
    adapter = trained(tmp_path / "run", "--max_steps", 1)
    with pytest.raises(UserError, match="does not fit"):
        merge(ROOT / "models" / "nano_checkpoint", adapter)
    with pytest.raises(UserError, match="there is something in this folder"):
        merge_lora.main([str(tiny_checkpoint), str(adapter), str(adapter)])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["ddp", "zero2", "zero3"])
def test_engines_train_adapters(tiny_checkpoint, streams, tmp_path, engine):
    """Two processes give the losses of one that accumulates, and an adapter that merges."""
    from tests.test_engines import ENGINES, KINDS
    from tests.training import build_deepspeed_extension

    if engine.startswith("zero"):
        build_deepspeed_extension()
    flags = ["--lora_rank", 4, "--max_steps", 6, "--save_steps", 3, "--freeze_modules", "visual"]
    flags += ["--per_device_train_batch_size", 1]
    alone = train_flags(tiny_checkpoint, streams, tmp_path / "alone", *flags, "--gradient_accumulation_steps", 2)
    run([sys.executable, "train.py", *alone])
    together = train_flags(tiny_checkpoint, streams, tmp_path / "together", *flags, *ENGINES[engine])
    run(torchrun(2, *together))
    expected, found = losses(tmp_path / "alone"), losses(tmp_path / "together")
    assert [step for step, *_ in found] == [1, 2, 3, 4, 5, 6]
    assert [loss for _, loss, _ in found] == pytest.approx([loss for _, loss, _ in expected], rel=1e-4)
    ran = json.loads((tmp_path / "together" / "train_summary.json").read_text())["ran"]
    assert (ran["engine"], ran["zero_stage"]) == KINDS[engine]
    assert not list((tmp_path / "together").glob("model*.safetensors"))
    merge(tiny_checkpoint, tmp_path / "together").save(tmp_path / "merged")
    assert Qwen2VLForConditionalGeneration.from_pretrained(tmp_path / "merged")


def test_the_merging_command_says_what_is_wrong(tiny_checkpoint, tmp_path):
    command = [
        sys.executable,
        "scripts/merge_lora.py",
        str(tiny_checkpoint),
        str(tmp_path / "none"),
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment(), text=True, capture_output=True)
    assert done.returncode == 2 and "error:" in done.stderr and "Traceback" not in done.stderr
