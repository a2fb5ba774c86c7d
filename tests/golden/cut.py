"""Cut the full golden files to the vocabulary rows in use, so that they fit in the repository.

    python -m tests.golden.cut --golden DIR [--output tests/golden]

Needs the full golden files; a minute on one core. The cut model's expected log-probabilities are the full model's,
renormalised over the rows kept and computed by the library's own class; tests on the full files use its own numbers.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2VLForConditionalGeneration

EMBEDDING = "model.embed_tokens.weight"
GRADIENTS = (EMBEDDING, "model.layers.0.self_attn.q_proj.weight", "model.layers.3.mlp.down_proj.weight")
SKIPPED_SAMPLES = {"bbb_720p"}  # its video alone is a megabyte
PIXEL_SAMPLES = {"no_window_bikes", "video_qa", "image"}
ID_LISTS = ("input_ids", "new_ids", "prompt_tail_ids", "final_past_ids")


def collect_ids(value) -> set[int]:
    """Every token id in the expected files."""
    if isinstance(value, dict):
        found = [set(v) if k in ID_LISTS else collect_ids(v) for k, v in value.items()]
    elif isinstance(value, list):
        found = [collect_ids(v) for v in value]
    else:
        return set()
    return set().union(*found)


def remap_ids(value, new_id: dict[int, int]):
    """The same structure with token ids renumbered; labels keep their -100."""
    if isinstance(value, list):
        return [remap_ids(v, new_id) for v in value]
    if not isinstance(value, dict):
        return value
    return {
        k: [new_id.get(i, i) for i in v] if k in (*ID_LISTS, "labels") else remap_ids(v, new_id)
        for k, v in value.items()
    }


def close_over_merges(used: set[str], merges: list[list[str]]) -> list[list[str]]:
    """The merges that build the tokens in use; every symbol met on the way joins `used`.

    A merge that the full tokenizer applies to a text is part of one of the text's tokens, so the smaller tokenizer
    takes the same steps.
    """
    parents = {"".join(pair): pair for pair in reversed(merges)}
    todo = list(used)
    while todo:
        pair = parents.get(todo.pop())
        for half in pair or ():
            if half not in used:
                used.add(half)
                todo.append(half)
    return [pair for pair in merges if "".join(pair) in used and set(pair) <= used]


def cut_tokenizer(source: Path, target: Path, used_ids: set[int]) -> list[int]:
    """Write the tokenizer over the ids in use; return the old ids in their new order."""
    spec = json.loads((source / "tokenizer.json").read_text())
    vocab, merges = spec["model"]["vocab"], spec["model"]["merges"]
    merges = [m.split(" ") if isinstance(m, str) else m for m in merges]
    special = {t["id"]: t for t in spec["added_tokens"]}
    token_of = {i: t for t, i in vocab.items()}
    used = {token_of[i] for i in used_ids if i in token_of} | {t for t, i in vocab.items() if i < 256}
    kept = close_over_merges(used, merges)
    old_ids = sorted({vocab[t] for t in used} | special.keys() | {i for i in used_ids if i not in token_of})
    new_id = {old: new for new, old in enumerate(old_ids)}
    spec["model"] |= {"vocab": {t: new_id[i] for t, i in vocab.items() if t in used}, "merges": kept}
    spec["added_tokens"] = [{**t, "id": new_id[i]} for i, t in special.items()]
    (target / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False))
    config = json.loads((source / "tokenizer_config.json").read_text())
    config["added_tokens_decoder"] = {str(new_id[int(i)]): t for i, t in config["added_tokens_decoder"].items()}
    (target / "tokenizer_config.json").write_text(json.dumps(config, indent=1))
    return old_ids


def cut_model(source: Path, target: Path, old_ids: list[int]) -> None:
    """Write the weights with the vocabulary rows in use, and configs with the new ids."""
    weights = load_file(source / "model.safetensors")
    weights[EMBEDDING] = weights[EMBEDDING][old_ids].contiguous()
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    new_id = {old: new for new, old in enumerate(old_ids)}
    for name in ("config.json", "generation_config.json"):
        config = json.loads((source / name).read_text())
        for key, value in config.items():
            if key.endswith("token_id"):
                config[key] = [new_id[i] for i in value] if isinstance(value, list) else new_id[value]
        if "vocab_size" in config:
            config["vocab_size"] = len(old_ids)
        (target / name).write_text(json.dumps(config, indent=1))
    for name in ("preprocessor_config.json", "chat_template.json", "special_tokens_map.json"):
        shutil.copy(source / name, target / name)


def cut_forward(golden: Path, samples: dict, old_ids: list[int]) -> tuple[dict, dict[str, np.ndarray]]:
    """Expected loss and label log-probabilities over the rows kept, by the library's model on the full weights."""
    model = Qwen2VLForConditionalGeneration.from_pretrained(golden / "tiny_model").float().eval()
    model.model.visual.requires_grad_(False)
    expected = dict(np.load(golden / "expected_forward.npz"))
    pixels = np.load(golden / "expected_pixels.npz")
    new_id = {old: new for new, old in enumerate(old_ids)}
    mean, std = (np.array(model_stat) for model_stat in _statistics(golden))
    losses, arrays = {}, {}
    for name in json.loads((golden / "expected_forward.json").read_text()).keys() & samples.keys():
        sample, inputs = samples[name], {}
        for kind, suffix in (("image", ""), ("video", "_videos")):
            if f"{name}/pixel_values{suffix}_u8" in pixels:
                grey = pixels[f"{name}/pixel_values{suffix}_u8"].reshape(-1, 3, 392) / 255
                patches = ((grey - mean[:, None]) / std[:, None]).reshape(-1, 1176)
                inputs[f"pixel_values{suffix}"] = torch.from_numpy(patches).float()
                inputs[f"{kind}_grid_thw"] = torch.tensor(sample[f"{kind}_grid_thw"])
        positions = torch.from_numpy(expected[f"{name}/position_ids"]).long()[:, None]
        ids = torch.tensor([sample["input_ids"]])
        model.zero_grad()
        logits = model(input_ids=ids, position_ids=positions, **inputs).logits[0, :-1]
        labels = torch.tensor(sample["labels"])[1:]
        full = logits[labels != -100].detach().log_softmax(-1).gather(1, labels[labels != -100][:, None])[:, 0]
        assert np.allclose(full, expected[f"{name}/label_logprob"], atol=1e-3), f"{name}: differs from the full files"
        kept = logits[labels != -100][:, old_ids].log_softmax(-1)
        targets = torch.tensor([new_id[int(i)] for i in labels[labels != -100]])
        logprob = kept.gather(1, targets[:, None])[:, 0]
        (-logprob.mean()).backward()
        norms = {key: float(model.get_parameter(_new_name(key)).grad.norm()) for key in GRADIENTS}
        total = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
        losses[name] = {"loss": -float(logprob.detach().mean()), "grad_norm_total": float(total), "grad_norms": norms}
        arrays[f"{name}/label_logprob"] = logprob.detach().numpy()
        arrays[f"{name}/position_ids"] = expected[f"{name}/position_ids"].astype(np.int16)
    return losses, arrays


def _new_name(key: str) -> str:
    return key.replace("model.", "model.language_model.", 1)


def _statistics(golden: Path) -> tuple[list[float], list[float]]:
    config = json.loads((golden / "tiny_model/preprocessor_config.json").read_text())
    return config["image_mean"], config["image_std"]


def cut(golden: Path, target: Path) -> None:
    """Write the cut files beside this one."""
    expected = json.loads((golden / "expected_samples.json").read_text())
    streams = json.loads((golden / "expected_stream.json").read_text())
    expected["samples"] = {n: s for n, s in expected["samples"].items() if n not in SKIPPED_SAMPLES}
    expected["names"] = [n for n in expected["names"] if n not in SKIPPED_SAMPLES]
    model = target / "tiny_model"
    for folder in (model, target / "videos", target / "images"):
        folder.mkdir(parents=True, exist_ok=True)
    old_ids = cut_tokenizer(golden / "tiny_model", model, collect_ids([expected, streams]))
    cut_model(golden / "tiny_model", model, old_ids)
    losses, arrays = cut_forward(golden, expected["samples"], old_ids)
    new_id = {old: new for new, old in enumerate(old_ids)}
    (target / "expected_samples.json").write_text(json.dumps(remap_ids(expected, new_id), ensure_ascii=False))
    (target / "expected_stream.json").write_text(json.dumps(remap_ids(streams, new_id), ensure_ascii=False))
    (target / "expected_forward.json").write_text(json.dumps(losses))
    np.savez_compressed(target / "expected_forward.npz", **arrays)
    pixels = np.load(golden / "expected_pixels.npz")
    kept = {key: pixels[key] for key in pixels if key.split("/")[0] in PIXEL_SAMPLES}
    np.savez_compressed(target / "expected_pixels.npz", **kept)
    cut_annotations(golden, target, set(expected["names"]), json.loads((golden / "expected_samples.json").read_text()))


def cut_annotations(golden: Path, target: Path, names: set[str], expected: dict) -> None:
    """Copy the samples kept, their media, and a seek line of byte offsets."""
    lines = (golden / "samples_with_seeks.jsonl").read_bytes().splitlines()
    kept = [line for name, line in zip(expected["names"], lines, strict=False) if name in names]
    offsets = [sum(len(line) + 1 for line in kept[:i]) for i in range(len(kept))]
    (target / "samples_with_seeks.jsonl").write_bytes(b"\n".join([*kept, json.dumps(offsets).encode()]))
    for media in [*(golden / "videos").iterdir(), *(golden / "images").iterdir()]:
        if any(media.name.encode() in line for line in kept):
            shutil.copy(media, target / media.relative_to(golden))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=Path, required=True, help="folder of the full golden files")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="where the cut ones go")
    arguments = parser.parse_args()
    cut(arguments.golden, arguments.output)
