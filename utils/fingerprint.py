"""A file's fingerprint without reading all of it: its size and some of its blocks."""

import hashlib
from pathlib import Path

BLOCK = 1 << 16  # bytes
N_BLOCKS = 16  # of a larger file: the first, the last, and evenly spaced ones between


def fingerprint(path: str | Path) -> str:
    """Hex digest of the size and of sampled blocks: 16 digits. Two versions of equal size may differ between them."""
    size = Path(path).stat().st_size
    digest = hashlib.sha256(str(size).encode())
    last = max(0, size - BLOCK)
    with open(path, "rb") as file:
        for start in sorted({last * i // (N_BLOCKS - 1) for i in range(N_BLOCKS)}):
            file.seek(start)
            digest.update(file.read(BLOCK))
    return digest.hexdigest()[:16]
