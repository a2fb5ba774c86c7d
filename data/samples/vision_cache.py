"""Features of a frozen vision tower kept on disk: a clip that is there is neither decoded nor encoded again.

One file a clip or image: a JSON header that says what made it, then the merger's output in the dtype in which it was
computed, [tokens, hidden]. What is kept of another tower, dtype, video, limit or rule is never used: the header must
be equal to what is asked for, and the contents to their checksum. A tower has a sub-folder of its own, which may be
removed whole.
"""

import hashlib
import json
import logging
import os
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.samples.patches import MERGE
from data.samples.visual_parts import VisualPart
from data.video.decode_cache import VERSION as PIXELS_VERSION
from data.video.decode_cache import identity_of
from utils.errors import UserError

logger = logging.getLogger(__name__)

VERSION = 1  # raise it when the tower's computation or this file's layout changes
MAX_HEADER = 1 << 16  # bytes; the length of a damaged file's header may be any number
ALIGNMENT = 64  # bytes; the features start at a multiple of it
LONGEST_CLIP_TOKENS = 24576  # at the default limits (data/video/frame_plan.py)


@dataclass(frozen=True)
class KeptClip:
    """What is kept of a clip: its frames' times, and the features of its first `grid_thw[0]` temporal patches."""

    path: Path
    start: int
    grid_thw: tuple[int, int, int]
    times_s: tuple[float, ...]
    crc32: int
    row_bytes: int

    def features(self, t: int) -> torch.Tensor | None:
        """The first t temporal patches' features as bytes, uint8 [tokens, row_bytes].

        None where fewer are kept, or where the contents are not what was written.
        """
        stored_t, h, w = self.grid_thw
        if t > stored_t:
            return None
        per_patch = h * w // MERGE**2
        try:
            rows = np.fromfile(self.path, np.uint8, offset=self.start)
        except OSError:  # removed since it was found
            return None
        if len(rows) != stored_t * per_patch * self.row_bytes or zlib.crc32(rows) != self.crc32:
            return None
        return torch.from_numpy(rows.reshape(-1, self.row_bytes)[: t * per_patch])


class VisionCache:
    """A folder of features of one frozen tower that several processes may read and fill at once.

    tower: fingerprint of its weights; dtype, hidden: of its features. max_gb: beyond it nothing more is kept, counted
    with what lies there when this process first writes; of what is left each of `world` processes has its share.
    Can be pickled into workers. Raises UserError where the folder cannot be made.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        tower: str,
        dtype: torch.dtype,
        hidden: int,
        max_gb: float | None = None,
        world: int = 1,
    ) -> None:
        self.root, self.tower, self.dtype, self.hidden = Path(folder), tower, dtype, hidden
        self.folder = self.root / f"tower-{tower[:16]}"
        self.max_gb, self.world = max_gb, world
        self._room: float | None = None if max_gb is not None else float("inf")
        self._is_full = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"vision cache {self.root}: {error.strerror}; choose another folder") from error

    @property
    def row_bytes(self) -> int:
        """Bytes of one visual token's features."""
        return self.hidden * self.dtype.itemsize

    def log_disk_use(self) -> None:
        """Say what a clip takes, before anything is written."""
        clip_mb = LONGEST_CLIP_TOKENS * self.row_bytes / 1e6
        limit = "no limit, see --vision_cache_gb" if self.max_gb is None else f"at most {self.max_gb:g} GB"
        logger.info(
            "vision cache %s: %d bytes a visual token, so %.0f MB for a clip of %d tokens; %.0f GB free, %s",
            self.folder, self.row_bytes, clip_mb, LONGEST_CLIP_TOKENS, shutil.disk_usage(self.root).free / 1e9, limit,
        )  # fmt: skip

    def made_of(self, path: str | os.PathLike, request: dict[str, Any]) -> dict[str, Any]:
        """What the features of a file's clip or image depend on. Raises VideoError for a file that is not there."""
        return {
            "request": request,
            **identity_of(path),
            "versions": [VERSION, PIXELS_VERSION],
            "tower": self.tower,
            "dtype": str(self.dtype),
            "hidden": self.hidden,
        }

    def find(self, made_of: dict[str, Any]) -> KeptClip | None:
        """What is kept of a clip, or None where there is nothing that fits."""
        place = self._place(made_of)
        try:
            with open(place, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(min(length, MAX_HEADER)))
                start = file.tell() + -file.tell() % ALIGNMENT
            if header["made_of"] != made_of:
                return None
            t, h, w = header["grid_thw"]
            return KeptClip(place, start, (t, h, w), tuple(header["times_s"]), header["crc32"], self.row_bytes)
        except (OSError, ValueError, KeyError, TypeError):  # not there, or cut off when a machine went down
            return None

    def store(self, parts: list[VisualPart], fresh: torch.Tensor | None) -> None:
        """Keep the features [n, hidden] that were computed of the parts without any. UserError for a full disk."""
        at = 0
        for part in parts:
            if not part.is_cached:
                rows, at = fresh[at : at + part.n_tokens], at + part.n_tokens
                self._write(part, rows.detach().to(self.dtype).cpu().contiguous().view(torch.uint8).numpy())

    def _place(self, made_of: dict[str, Any]) -> Path:
        # A changed video keeps its place, so that its old features are written over.
        key = json.dumps([made_of["path"], made_of["request"], made_of["dtype"]], sort_keys=True)
        name = hashlib.sha256(key.encode()).hexdigest()[:40]
        return self.folder / name[:2] / f"{name}.features"

    def _write(self, part: VisualPart, rows: np.ndarray) -> None:
        """Write under another name and move into place, so that no reader ever sees half of a file."""
        if not self._has_room(rows.nbytes):
            return
        place, temporary = self._place(part.made_of), None
        header = {"made_of": part.made_of, "grid_thw": part.grid_thw, "times_s": part.times_s}
        encoded = json.dumps({**header, "crc32": zlib.crc32(rows)}).encode()
        if len(encoded) > MAX_HEADER:  # would never be read again
            return
        try:
            place.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=place.parent, suffix=".partial", delete=False) as file:
                temporary = file.name
                file.write(len(encoded).to_bytes(8, "little") + encoded)
                file.write(bytes(-file.tell() % ALIGNMENT))
                file.write(rows.data)
            os.replace(temporary, place)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            raise UserError(
                f"vision cache {self.root}: {rows.nbytes / 1e6:.0f} MB cannot be written: {error.strerror}; free "
                "space there, choose another folder, set --vision_cache_gb, or run without the cache"
            ) from error

    def _has_room(self, n_bytes: int) -> bool:
        if self._room is None:
            used = sum(file.stat().st_size for file in self.root.rglob("*.features"))
            self._room = (self.max_gb * 1e9 - used) / self.world
        if n_bytes <= self._room:
            self._room -= n_bytes
            return True
        if not self._is_full:
            logger.warning("vision cache %s: --vision_cache_gb %g is reached; no more is kept", self.root, self.max_gb)
        self._is_full = True
        return False
