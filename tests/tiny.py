"""A random Qwen2-VL checkpoint small enough for tests: 0.3 M parameters, the nano world's tokenizer, default limits."""

import json
from pathlib import Path

from models.nano import NanoArguments, build_nano


def make_tiny_checkpoint(folder: Path, seed: int = 0) -> Path:
    """Write model, processor, tokenizer, chat template and generation config to `folder`; return it.

    As a checkpoint from elsewhere, it says nothing of position mode and video limits.
    """
    folder = Path(folder)
    size = {"hidden_size": 64, "num_layers": 2, "vision_width": 64, "rope_theta": 10000.0}
    build_nano(NanoArguments(output_dir=str(folder), seed=seed, **size))
    config = json.loads((folder / "config.json").read_text())
    for ours in ("position_mode", "video_limits"):
        del config[ours]
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    return folder
