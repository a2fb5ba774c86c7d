"""Loading: names old and new, position modes, limits, and what is refused with which words."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2VLForConditionalGeneration

from data.samples.checkpoint_config import choose_position_mode, load_processor
from data.video.frame_plan import VideoLimits
from models.load import load_checkpoint, preferred_attention
from utils.errors import UserError


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")


def edit_config(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))


def load(folder, **options):
    return load_checkpoint(folder, device="cpu", dtype="float32", **options)


@pytest.fixture
def no_environment(monkeypatch):
    for name in ("VIDEO_MIN_PIXELS", "VIDEO_MAX_PIXELS", "FPS_MAX_FRAMES"):
        monkeypatch.delenv(name, raising=False)


def test_saved_checkpoints_load_here_and_in_plain_transformers(folder, tmp_path):
    checkpoint = load(folder)
    checkpoint.save(tmp_path / "saved")
    ours = load(tmp_path / "saved").model.state_dict()
    plain = Qwen2VLForConditionalGeneration.from_pretrained(tmp_path / "saved", dtype=torch.float32).state_dict()
    for name, weight in checkpoint.model.state_dict().items():
        assert torch.equal(weight, ours[name]) and torch.equal(weight, plain[name])
    config = json.loads((tmp_path / "saved/config.json").read_text())
    assert config["architectures"] == ["Qwen2VLForConditionalGeneration"]


def test_both_spellings_of_weight_names(folder, tmp_path):
    """Released checkpoints name weights as transformers did before 4.52."""
    weights = load_file(folder / "model.safetensors")
    new = {
        name.replace("visual.", "model.visual.", 1)
        if name.startswith("visual.")
        else name.replace("model.", "model.language_model.", 1)
        if name.startswith("model.") and not name.startswith(("model.visual.", "model.language_model."))
        else name: weight
        for name, weight in weights.items()
    }
    other = shutil.copytree(folder, tmp_path / "other")
    save_file(new, other / "model.safetensors", metadata={"format": "pt"})
    first, second = load(folder).model.state_dict(), load(other).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "name, recorded, wanted, mode",
    [
        ("chenjoya/LiveCC-7B-Instruct", None, None, "sequential"),
        ("/somewhere/LiveCC-7B-Base", None, None, "sequential"),
        ("Qwen/Qwen2-VL-7B-Instruct", None, None, "mrope"),
        ("mine", "sequential", None, "sequential"),
        ("chenjoya/LiveCC-7B-Instruct", None, "mrope", "mrope"),
        ("mine", "mrope", "livecc", "livecc"),
    ],
)
def test_position_mode(name, recorded, wanted, mode, caplog):
    caplog.set_level("INFO")
    config = type("Config", (), {"position_mode": recorded})()
    assert choose_position_mode(config, name, wanted) == mode
    assert mode in caplog.text and "--position_mode" in caplog.text


def test_limits_come_from_environment_then_checkpoint_then_defaults(folder, no_environment, monkeypatch):
    assert load(folder).limits.max_frames == VideoLimits().max_frames
    edit_config(folder, video_limits={"min_pixels": 784, "total_pixels": 7840, "max_frames": 12})
    assert load(folder).limits == VideoLimits(min_pixels=784, total_pixels=7840, max_frames=12)
    monkeypatch.setenv("FPS_MAX_FRAMES", "6")
    assert load(folder).limits == VideoLimits(min_pixels=784, total_pixels=7840, max_frames=6)


def test_the_turns_end_is_always_an_end(folder):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))
    checkpoint = load(folder)
    assert checkpoint.eos_ids == (checkpoint.chat.im_end, 0)


def test_a_base_model_gets_the_chat_template(folder):
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    checkpoint = load(folder)
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "Hi"}]}]
    text = checkpoint.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text.endswith(
        "<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>Hi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_missing_weights_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    lost = next(name for name in weights if "down_proj" in name)
    del weights[lost]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="weights are missing"):
        load(folder)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model_type": "qwen2"}, "only 'qwen2_vl'"),
        ({"position_mode": "diagonal"}, "diagonal"),
    ],
)
def test_unsuitable_configs(folder, change, words):
    edit_config(folder, **change)
    with pytest.raises(UserError, match=words):
        load(folder)


def test_broken_weights(folder):
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{broken}")
    with pytest.raises(UserError, match="cannot be loaded"):
        load(folder)


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all"])
def test_no_folder(name):
    with pytest.raises(UserError, match="no checkpoint folder"):
        load(name)


def test_unknown_dtype(folder):
    with pytest.raises(UserError, match="bfloat16"):
        load_checkpoint(folder, device="cpu", dtype="int3")


def test_processor_alone(folder, tmp_path):
    processor, config = load_processor(folder)
    assert processor.tokenizer and config.model_type == "qwen2_vl"
    (folder / "config.json").unlink()
    assert load_processor(folder)[1] is None
    with pytest.raises(UserError, match="no processor"):
        load_processor(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("device", "dtype", "installed", "chosen"),
    [
        ("cuda", torch.bfloat16, True, "flash_attention_2"),
        ("cuda", torch.float16, True, "flash_attention_2"),
        ("cuda", torch.float32, True, "sdpa"),
        ("cuda", torch.bfloat16, False, "sdpa"),
        ("cpu", torch.bfloat16, True, "sdpa"),
    ],
)
def test_flash_attention_is_chosen_for_16_bits_on_a_gpu_alone(device, dtype, installed, chosen, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if installed else None)
    assert preferred_attention(torch.device(device), dtype) == chosen


LIVECC = "chenjoya/LiveCC-7B-Instruct"
SNAPSHOT = f"models--chenjoya--LiveCC-7B-Instruct/snapshots/{'dbe7415c' * 5}"


@pytest.mark.parametrize(
    ("place", "recorded_name", "card", "mode", "is_guess"),
    [
        (SNAPSHOT, None, None, "sequential", False),
        ("models--Qwen--Qwen2-VL-7B-Instruct/snapshots/abc", None, None, "mrope", False),
        ("livecc-7b-instruct", None, None, "sequential", True),
        ("livecc", None, None, "sequential", True),
        ("LiveCC-7B-Instruct-AWQ", None, None, "sequential", True),
        ("my-livecc-sft/checkpoint-100", None, None, "sequential", True),
        ("run_3/checkpoint-100", LIVECC, None, "sequential", True),
        ("merged", None, f"base_model: {LIVECC}", "sequential", True),
        ("merged", None, f"license: mit\nbase_model:\n- {LIVECC}\ntags:\n- video", "sequential", True),
        ("merged", None, "base_model:\n- Qwen/Qwen2-VL-7B\ndatasets:\n- chenjoya/LiveCC-5M", "mrope", True),
        ("Qwen2-VL-2B", None, None, "mrope", True),
        ("livecc/weights/Qwen2-VL-7B-Instruct", None, None, "mrope", True),
        ("livecc/weights/base", "Qwen/Qwen2-VL-7B", None, "mrope", True),
        ("weights", None, None, "mrope", True),
    ],
)
def test_weights_are_known_wherever_they_lie(place, recorded_name, card, mode, is_guess, tmp_path, caplog):
    caplog.set_level("INFO")
    folder = tmp_path / place
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"_name_or_path": recorded_name} if recorded_name else {}))
    if card:
        (folder / "README.md").write_text(f"---\n{card}\n---\n# Some model\n")
    assert choose_position_mode(None, str(folder)) == mode
    (said,) = caplog.records
    assert said.levelname == ("WARNING" if is_guess else "INFO") and ("guess" in said.message) == is_guess
    link = tmp_path / "a link"
    link.symlink_to(folder)
    assert choose_position_mode(None, str(link)) == mode


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def lfs_pointer(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 16598765267\n")


def as_shards(folder):
    """Split the weights in two; the index names both."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = {name: f"model-0000{1 + at % 2}-of-00002.safetensors" for at, name in enumerate(sorted(weights))}
    for file in set(names.values()):
        save_file({name: weights[name] for name in names if names[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder / "model-00002-of-00002.safetensors"


def rename_weights(folder, name):
    (folder / "model.safetensors").rename(folder / name)


def add_weight(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(weights | {"model.layers.99.mlp.up_proj.weight": torch.ones(2)}, folder / "model.safetensors")


def add_tokens(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    entry = tokenizer["added_tokens"][-1]
    tokenizer["added_tokens"].append({**entry, "id": 10**6, "content": "<|one too many|>"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: cut(folder / "model.safetensors"), "cut short"),
        (lambda folder: cut(as_shards(folder)), "00002-of-00002.*cut short"),
        (lambda folder: as_shards(folder).unlink(), "1 of 2 files of weights are missing .*00002"),
        (lambda folder: lfs_pointer(folder / "model.safetensors"), "lfs pull"),
        (lambda folder: lfs_pointer(folder / "tokenizer.json"), "lfs pull"),
        (lambda folder: lfs_pointer(folder / "config.json"), "lfs pull"),
        (lambda folder: rename_weights(folder, "pytorch_model.bin"), "only pytorch_model.bin"),
        (lambda folder: rename_weights(folder, "weights-Q4_K_M.gguf"), "only weights-Q4_K_M.gguf"),
        (lambda folder: (folder / "model.safetensors").unlink(), "neither"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "no safetensors"),
        (lambda folder: (as_shards(folder).parent / "model.safetensors.index.json").write_text("{"), "no index"),
        (lambda folder: edit_config(folder, quantization_config={"quant_method": "awq", "bits": 4}), "by awq"),
        (lambda folder: edit_config(folder, quantization_config={"quant_method": "gptq", "bits": 4}), "by gptq"),
        (lambda folder: edit_config(folder, quantization_config={"load_in_4bit": True}), "quantized"),
        (add_weight, "1 weights are unexpected .*layers.99"),
        (add_tokens, "the tokenizer has 668 tokens and the embedding 667 rows"),
    ],
)
def test_folders_that_cannot_be_loaded_are_one_message(folder, change, words):
    change(folder)
    with pytest.raises(UserError, match=words) as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def test_shards_load_as_one_file(folder, tmp_path):
    whole = load(folder).model.state_dict()
    as_shards(folder)
    assert all(torch.equal(weight, whole[name]) for name, weight in load(folder).model.state_dict().items())


def test_paths_beside_a_checkpoint(folder, monkeypatch):
    with pytest.raises(UserError, match=f"there is one below it: give {folder}"):
        load(folder.parent)
    with pytest.raises(UserError, match="it is a file; give a folder"):
        load(folder / "model.safetensors")
    (folder.parent / "gguf").mkdir()
    (folder.parent / "gguf" / "livecc-Q4.gguf").write_bytes(b"GGUF")
    for path in (folder.parent / "gguf", folder.parent / "gguf" / "livecc-Q4.gguf"):
        with pytest.raises(UserError, match=r"GGUF.* not read"):
            load(path)
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load(f"~/{folder.name}").name == str(folder)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda:-1", "meta", "cpu:3", "mps:0", "CPU"])
def test_unknown_devices_are_refused_with_those_that_are_there(folder, device):
    with pytest.raises(UserError, match=rf"--device {device}: not there; PyTorch .* cpu"):
        load_checkpoint(folder, device=device)
