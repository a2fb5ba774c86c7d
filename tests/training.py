"""Small training runs: annotations over tiny videos, train.py in processes of its own, and what it logged."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from models.training.train_arguments import why_no_deepspeed_build
from tests.samples import stream, write_matches, write_samples

ROOT = Path(__file__).resolve().parents[1]
# Small frames, and one thread: what is compared is computed alike.
SMALL = {
    "VIDEO_MIN_PIXELS": "784",
    "VIDEO_MAX_PIXELS": "31360",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
SIX_STEPS = ["--max_steps", 6, "--save_steps", 2, "--per_device_train_batch_size", 2]
# DeepSpeed's extension, built once for all test runs.
EXTENSIONS = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "livecc" / "torch_extensions"
BUILD = """
from deepspeed.accelerator import get_accelerator
builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
print("built" if builder is not None and builder.is_compatible() and builder.load() else "not needed")
"""


def make_annotations(folder: Path, n_samples: int = 24) -> Path:
    """Streams with different words over two films and two windows of them, of different lengths."""
    return write_samples(write_matches(folder) / "streams.jsonl", [stream(i, 3 + i % 5) for i in range(n_samples)])


def train_flags(model: Path, data: Path | list[Path], output_dir: Path, *flags: object) -> list[str]:
    """Flags of train.py for a float32 run that logs each step."""
    files = data if isinstance(data, list) else [data]
    paths = ["--pretrained_model_name_or_path", model, "--annotation_paths", *files, "--output_dir", output_dir]
    plain = ["--use_cpu", True, "--report_to", "none", "--logging_steps", 1, "--learning_rate", 1e-3, "--bf16", False]
    return [str(word) for word in [*paths, *plain, *flags]]


def torchrun(processes: int, *flags: str) -> list[str]:
    """The command of train.py in several processes."""
    return [
        *[sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"],
        *["train.py", *flags],
    ]


def environment(**more: object) -> dict[str, str]:
    """The present environment for a run."""
    return {**os.environ, **SMALL, "TORCH_EXTENSIONS_DIR": str(EXTENSIONS), **{k: str(v) for k, v in more.items()}}


def run(command: list[str], timeout_s: float = 280, **more: object) -> str:
    """Run a command that must succeed; what it wrote to both outputs."""
    done = subprocess.run(
        command, cwd=ROOT, env=environment(**more), text=True, timeout=timeout_s,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def log_of(output_dir: Path) -> list[dict]:
    """What was logged of every step."""
    lines = (output_dir / "train_log.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if "loss" in entry]


def losses(output_dir: Path) -> list[tuple[int, float, float]]:
    """(step, loss, gradient norm) of every step logged."""
    return [(entry["step"], entry["loss"], entry["grad_norm"]) for entry in log_of(output_dir)]


def build_deepspeed_extension() -> None:
    """Build DeepSpeed's extension unless it is there: minutes the first time, nothing later.

    The test is skipped where it cannot be built.
    Under older versions of torch a build that was killed leaves a file behind for which the next one waits for ever.
    The lock held here shows that nobody builds in this folder now, so such a file is stale.
    """
    if why_no_deepspeed_build():
        pytest.skip("needs a DeepSpeed build: the environment's path has a space")
    EXTENSIONS.mkdir(parents=True, exist_ok=True)
    with (EXTENSIONS / "held").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for stale in EXTENSIONS.glob("*/lock"):
            stale.unlink()
        run([sys.executable, "-c", BUILD], timeout_s=1200)
