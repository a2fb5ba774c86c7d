"""A random checkpoint of a family, small enough for tests: 0.3 M parameters, the nano tokenizer, default limits."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText

from models.nano import NanoArguments, build_nano

# Freshly initialised matrices are so small that attention is uniform and one token wins whatever the model sees; with
# larger ones what it says depends on frames, times, questions and pasts (tests/test_tiny.py).
GAIN = 6.0


def make_tiny_checkpoint(folder: Path, seed: int = 0, tied: bool = False, family: str = "qwen2_vl") -> Path:
    """Write model, processor, tokenizer, chat template and generation config to `folder`; return it.

    As a checkpoint from elsewhere, it says nothing of position mode and video limits. tied: the vocabulary head is the
    embedding, as in the nano model and Qwen2-VL-2B; by default it has weights of its own, as in the 7B.
    """
    folder = Path(folder)
    size = {"hidden_size": 64, "num_layers": 2, "vision_width": 64, "rope_theta": 10000.0}
    build_nano(NanoArguments(output_dir=str(folder), seed=seed, family=family, **size))
    _amplify(folder, seed, tied)
    config = json.loads((folder / "config.json").read_text())
    for ours in ("position_mode", "video_limits"):
        config.pop(ours, None)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder


def _amplify(folder: Path, seed: int, tied: bool) -> None:
    """Multiply every matrix by GAIN; give an untied head its own."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype="float32")
    generator = torch.Generator().manual_seed(1000 + seed)
    with torch.no_grad():
        if not tied:
            embedding = model.get_input_embeddings().weight
            model.config.tie_word_embeddings = model.config.text_config.tie_word_embeddings = False
            own = torch.randn(embedding.shape, generator=generator) * embedding.std()
            model.lm_head.weight = torch.nn.Parameter(own)
        for parameter in dict.fromkeys(model.parameters()):
            if parameter.ndim > 1:
                parameter.mul_(GAIN)
    model.save_pretrained(folder)
