"""The models that stages load, by path or hub id: what is there, and what tells one version from another."""

import hashlib
from pathlib import Path

from utils.errors import UserError
from utils.fingerprint import fingerprint

PARTS = (
    ".json",
    ".jinja",
    ".txt",
    ".safetensors",
    ".bin",
    ".gguf",
    ".onnx",
)  # suffixes of files that decide the output


def local_model(name: str) -> Path | None:
    """The file or folder that a model's name means; None for a hub id. Raises UserError for a path with nothing."""
    path = Path(name).expanduser()
    if path.exists():
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UserError(f"{name}: no such model; check the path, or give a hub id")
    return None


def model_fingerprint(name: str) -> str:
    """Hex digest of a model's file or folder, of any library: 16 digits; "" for a hub id, which is its own name.

    (The hub's files are not looked at: they are there after the first run only, and then all would be made again.)
    Every file is sampled, and none has to be there. `utils.fingerprint.checkpoint_fingerprint` is stricter, of a
    Hugging Face checkpoint that is evaluated; neither can change, as kept work is found by one and rows by the other.
    """
    path = local_model(name)
    if path is None:
        return ""
    if path.is_file():
        return fingerprint(path)
    digest = hashlib.sha256()
    for part in sorted(part for part in path.iterdir() if part.suffix in PARTS and part.is_file()):
        digest.update(f"{part.name} {fingerprint(part)}\n".encode())
    return digest.hexdigest()[:16]
