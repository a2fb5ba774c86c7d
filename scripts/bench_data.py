"""Measures how fast a clip becomes model input: this repository's reader against the published recipe.

    python scripts/bench_data.py                      (--clip_s 10 --repeats 1 for a look)

Both start from the same 60 s h264 files (1280x720 and 640x360, 30 fps, B-frames, made here with x264's defaults), take
the same 120 frames at the default limits, and run on one thread, by turns in one process:

    published   decord decodes, torchvision resizes through float32, transformers' Qwen2-VL video processor normalises
                in float32 and cuts patches (it resizes a second time unless told not to: off here, in its favour)
    ours        data.video.read_clip and data.patches.cut_patches: uint8 patches, which the model's device normalises
    ours+norm   the same and normalised here to float32, so that both outputs are the same numbers

Hardware: one CPU core, 4 GB of memory, no GPU. Time: about 6 minutes, 2 of which make the videos (kept in --folder).
Expected: at least 2.0 times as many samples a second at 1280x720 and 2.5 times at 640x360 (dev/benchmarks/data.md).
Seconds are CPU seconds, so that other work on the machine disturbs little.
"""

import os

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # read when torch and numpy are imported
    os.environ[name] = "1"

import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

SIZES = {"1280x720": (720, 1280), "640x360": (360, 640)}
FPS = 30
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])  # CLIP's, as Qwen2-VL normalises
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@dataclass
class BenchArguments:
    clip_s: int = field(default=60, metadata={"help": "Length of the clips in seconds."})
    repeats: int = field(default=3, metadata={"help": "How often each recipe reads each clip."})
    gops: list[int] = field(
        default_factory=lambda: [250, 60], metadata={"help": "Largest distance of keyframes."}
    )
    folder: str | None = field(
        default=None, metadata={"help": "Where the clips are kept; default: not kept."}
    )
    clips: list[str] | None = field(
        default=None, metadata={"help": "Your own video files, read whole, in place of the ones made here."}
    )
