"""Record of a training run: arguments, code, versions, machine, weights and data, one entry for each start."""

import importlib.metadata
import json
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from utils.files import write_whole
from utils.fingerprint import fingerprint

NAME = "run.json"
PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "peft", "liger-kernel", "flash-attn", "av", "numpy")


def write_run_record(
    output_dir: str | Path,
    arguments: dict[str, dict[str, Any]],
    annotation_paths: Sequence[str],
    model: str,
    world: int,
    fresh: bool = False,
) -> Path:
    """Append this start to OUTPUT_DIR/run.json, a list: a run that was resumed has several entries. Returns the path.

    fresh: the run starts over, and its list with it.
    """
    path = Path(output_dir) / NAME
    starts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and not fresh else []
    starts.append(
        {
            "started_unix_s": round(time.time()),
            "command": sys.argv,
            "arguments": arguments,
            "code": code_version(),
            "versions": {"python": platform.python_version(), **package_versions()},
            "machine": {"host": socket.gethostname(), "platform": platform.platform(), "processes": world, **_device()},
            "model": {"name": model, "weights": weight_fingerprints(model)},
            "data": [_data_file(Path(name)) for name in annotation_paths],
        }
    )
    write_whole(path, json.dumps(starts, indent=1, default=str) + "\n")
    return path


def code_version() -> dict[str, Any]:
    """The git commit of this code and whether files differ from it; None for both outside of a repository."""
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if changed is None else bool(changed)}


def package_versions() -> dict[str, str | None]:
    """Versions of the packages that decide what is computed; None for one that is not installed."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def weight_fingerprints(model: str) -> dict[str, str]:
    """Fingerprints of the weight files of a local folder; empty for a hub id, whose name says which they are."""
    folder = Path(model).expanduser()
    return {path.name: fingerprint(path) for path in sorted(folder.glob("*.safetensors"))}


def _data_file(path: Path) -> dict[str, Any]:
    stat = path.stat()
    return {
        "path": str(path), "bytes": stat.st_size, "modified_unix_s": round(stat.st_mtime),
        "fingerprint": fingerprint(path),
    }  # fmt: skip


def _device() -> dict[str, Any]:
    if torch.cuda.is_available():
        return {"device": torch.cuda.get_device_name(), "devices_here": torch.cuda.device_count()}
    return {"device": "mps" if torch.backends.mps.is_available() else "cpu", "threads": torch.get_num_threads()}


def _git(*words: str) -> str | None:
    root = Path(__file__).resolve().parents[2]
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
