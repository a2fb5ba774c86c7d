"""Weight files of a checkpoint's folder before they are loaded: all there, whole, and of a kind that is read."""

import json
from pathlib import Path

from utils.errors import UserError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHER_KINDS = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack", "*.onnx", "*.safetensors")
LFS_POINTER = b"version https://git-lfs"
AGAIN = "copy or download it again"


def check_weight_files(folder: Path) -> None:
    """Raise UserError, with the remedy, for a folder whose files cannot be read as they are."""
    for path in sorted(folder.glob("*.json")):
        _check_pointer(path)
    for path in _weight_files(folder):
        _check_pointer(path)
        _check_whole(path)


def _weight_files(folder: Path) -> list[Path]:
    """The files that the library loads: one, else those of the index."""
    if (folder / WHOLE).exists():
        return [folder / WHOLE]
    if not (folder / INDEX).exists():
        others = [path.name for kind in OTHER_KINDS for path in sorted(folder.glob(kind))]
        raise UserError(
            f"{folder}: weights are read from {WHOLE} or from the files of {INDEX}, and there is "
            f"{f'only {others[0]}' if others else 'neither'}; download them, or load the checkpoint with "
            "transformers and save_pretrained it"
        )
    try:
        names = sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"{folder / INDEX}: is no index of weights; {AGAIN}") from None
    if missing := [name for name in names if not (folder / name).exists()]:
        raise UserError(
            f"{folder}: {len(missing)} of {len(names)} files of weights are missing ({missing[0]}); {AGAIN}"
        )
    return [folder / name for name in names]


def _check_pointer(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise UserError(
                f"{path}: a pointer of Git LFS, not the file itself; fetch the files: git -C {path.parent} lfs pull"
            )


def _check_whole(path: Path) -> None:
    """Compare a file's size with the one that its header tells."""
    size = path.stat().st_size
    with path.open("rb") as file:
        n_header = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(n_header)) if n_header < size else {}
            tensors = [entry for name, entry in header.items() if name != "__metadata__"]
            wanted = 8 + n_header + max(entry["data_offsets"][1] for entry in tensors)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise UserError(f"{path}: cannot be loaded, {size:,} bytes that are no safetensors; {AGAIN}") from None
    if size != wanted:
        raise UserError(f"{path}: {size:,} bytes, where its header tells {wanted:,}: cut short or damaged; {AGAIN}")
