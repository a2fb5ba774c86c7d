"""Fingerprints of JSON values, and of files and checkpoints without reading all of them: sizes, headers and some of
the blocks."""

import hashlib
import json
from pathlib import Path
from typing import Any

BLOCK = 1 << 16  # bytes
N_BLOCKS = 16  # of a larger file: the first, the last, and evenly spaced ones between
TENSOR_BLOCK = 1 << 12  # bytes of each tensor: 3 MB of a 7B model, and a run that trained one matrix is seen


def digest(value: Any) -> str:
    """16 hex digits of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


def fingerprint(path: str | Path) -> str:
    """Hex digest of the size and of sampled blocks: 16 digits. Two versions of equal size may differ between them."""
    size = Path(path).stat().st_size
    hashed = hashlib.sha256(str(size).encode())
    last = max(0, size - BLOCK)
    with open(path, "rb") as file:
        for start in sorted({last * i // (N_BLOCKS - 1) for i in range(N_BLOCKS)}):
            file.seek(start)
            hashed.update(file.read(BLOCK))
    return hashed.hexdigest()[:16]


def checkpoint_fingerprint(folder: str | Path) -> str:
    """Hex digest of a Hugging Face checkpoint's folder: 16 digits, which evaluations keep beside each answer.

    Of the small files that decide what it says all bytes, of its weights the headers, sizes and a block of every
    tensor. Raises FileNotFoundError where it holds no weights in safetensors. Models that production loads, of any
    library and from the hub too, have data.production.model_files.model_fingerprint, whose digests differ.
    """
    folder = Path(folder)
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise FileNotFoundError(f"{folder}: no *.safetensors there")
    hashed = hashlib.sha256()
    for path in sorted({*folder.glob("*.json"), *folder.glob("*.jinja"), *folder.glob("*.txt")}):
        hashed.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    for path in weights:
        hashed.update(f"{path.name} {fingerprint(path)} {_weights_digest(path)}\n".encode())
    return hashed.hexdigest()[:16]


def _weights_digest(path: Path) -> str:
    """Hex digest of a safetensors file's header and of the block in the middle of each of its tensors."""
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        header = file.read(n_header)
        hashed = hashlib.sha256(header)
        tensors = [entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__"]
        for start, end in sorted(tensors):
            length = min(TENSOR_BLOCK, end - start)
            file.seek(8 + n_header + start + (end - start - length) // 2)
            hashed.update(file.read(length))
    return hashed.hexdigest()
