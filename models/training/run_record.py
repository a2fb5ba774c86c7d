"""Record of a training run: arguments, code, versions, machine, weights and data, one entry for each start."""

import importlib.metadata
import json
import logging
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

logger = logging.getLogger(__name__)

NAME = "run.json"
PACKAGES = ("torch", "transformers", "accelerate", "deepspeed", "peft", "liger-kernel", "flash-attn", "av", "numpy")


def describe_start(
    arguments: dict[str, dict[str, Any]],
    annotation_paths: Sequence[str],
    model: str,
    world: int,
) -> dict[str, Any]:
    """Describe a start: what was asked for, by which code, with which weights and data."""
    return {
        "started_unix_s": round(time.time()),
        "command": sys.argv,
        "arguments": arguments,
        "code": code_version(),
        "versions": {"python": platform.python_version(), **package_versions()},
        "machine": {"host": socket.gethostname(), "platform": platform.platform(), "processes": world, **_device()},
        "model": {"name": model, "weights": weight_fingerprints(model)},
        "data": [_data_file(Path(name)) for name in annotation_paths],
    }


def add_start(output_dir: str | Path, start: dict[str, Any]) -> Path:
    """Append a start to OUTPUT_DIR/run.json, a list: a run that was resumed has several. Returns the path."""
    return _write(output_dir, [*_read(output_dir), start])


def last_start(output_dir: str | Path) -> dict[str, Any] | None:
    """The last start in output_dir; None where none was written down, or where it cannot be read."""
    starts = _read(output_dir)
    return starts[-1] if starts else None


def note_finished(output_dir: str | Path, step: int) -> None:
    """Write down that the last start has come to its end, at this step."""
    *before, last = _read(output_dir)
    _write(output_dir, [*before, {**last, "finished_at": step}])


def _read(output_dir: str | Path) -> list[dict[str, Any]]:
    path = Path(output_dir) / NAME
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    except ValueError:
        logger.warning("%s cannot be read: taken as empty", path)
        return []


def _write(output_dir: str | Path, starts: list[dict[str, Any]]) -> Path:
    path = Path(output_dir) / NAME
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
