"""Features of a frozen vision tower kept on disk: a clip that is there is neither decoded nor encoded again.

A safetensors file a clip or image: the merger's output in the dtype in which it was computed, [tokens, hidden], and in
the header what made it. What is kept of another tower, dtype, video, limit or rule is never used: the header must be
equal to what is asked for, and the contents to their checksum. A tower has a sub-folder of its own, which may be
removed whole.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.samples.patches import grid_tokens
from data.samples.visual_parts import VisualPart
from data.video.decode_cache import VERSION as PIXELS_VERSION
from data.video.decode_cache import identity_of
from data.video.frame_plan import FPS
from data.video.tensor_file import read_tensors, write_tensors
from utils.errors import UserError

logger = logging.getLogger(__name__)

VERSION = 2  # raise it when the tower's computation or the file's tensors change
LONGEST_CLIP_TOKENS = 24576  # at the default limits (data/video/frame_plan.py)


@dataclass(frozen=True)
class KeptClip:
    """What is kept of a clip: its frames' times, and the features of its first `grid_thw[0]` temporal patches.

    rows: uint8 [tokens, bytes a visual token], mapped from the file; crc32: of what was written; frame_s: seconds that
    a frame stands for.
    """

    rows: torch.Tensor
    grid_thw: tuple[int, int, int]
    times_s: tuple[float, ...]
    crc32: int
    frame_s: float

    def features(self, t: int) -> torch.Tensor | None:
        """The first t temporal patches' features as bytes, uint8 [tokens, bytes a visual token].

        None where fewer are kept, or where the contents are not what was written.
        """
        stored_t, h, w = self.grid_thw
        if t > stored_t:
            return None
        rows = self.rows.numpy().data
        if len(rows) != grid_tokens(self.grid_thw) or zlib.crc32(rows) != self.crc32:
            return None
        return self.rows[: grid_tokens((t, h, w))]


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
        self._room: float | None = None  # bytes; not known before the first writing
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
        """Log the bytes that a clip takes, before anything is written."""
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
        kept = read_tensors(self._place(made_of), made_of)
        if kept is None:
            return None
        facts, tensors = kept
        t, h, w = facts["grid_thw"]
        rows = tensors["features"].view(torch.uint8)
        # Not in files of earlier versions, whose towers are all Qwen2-VL's: there it moves nothing.
        return KeptClip(rows, (t, h, w), tuple(facts["times_s"]), facts["crc32"], facts.get("frame_s", 1 / FPS))

    def store(self, parts: list[VisualPart], fresh: torch.Tensor | None) -> None:
        """Keep the features [n, hidden] that were computed of the parts without any. UserError for a full disk.

        fresh: None where all were kept before.
        """
        if fresh is None:
            return
        at = 0
        for part in parts:
            if not part.is_cached:
                rows, at = fresh[at : at + part.n_tokens], at + part.n_tokens
                self._write(part, rows.detach().to(self.dtype).cpu().contiguous())

    def _place(self, made_of: dict[str, Any]) -> Path:
        # A changed video keeps its place, so that its old features are written over.
        key = json.dumps([made_of["path"], made_of["request"], made_of["dtype"]], sort_keys=True)
        name = hashlib.sha256(key.encode()).hexdigest()[:40]
        return self.folder / name[:2] / f"{name}.features"

    def _write(self, part: VisualPart, features: torch.Tensor) -> None:
        if not self._has_room(features.nbytes):
            return
        crc32 = zlib.crc32(features.view(torch.uint8).numpy().data)
        facts = {"grid_thw": part.grid_thw, "times_s": part.times_s, "crc32": crc32, "frame_s": part.frame_s}
        try:
            write_tensors(self._place(part.made_of), {"features": features}, part.made_of, facts)
        except OSError as error:
            raise UserError(
                f"vision cache {self.root}: {features.nbytes / 1e6:.0f} MB cannot be written: {error.strerror}; free "
                "space there, choose another folder, set --vision_cache_gb, or run without the cache"
            ) from error

    def _has_room(self, n_bytes: int) -> bool:
        if self._room is None:
            self._room = self._measure_room()
        if n_bytes <= self._room:
            self._room -= n_bytes
            return True
        if not self._is_full:
            logger.warning("vision cache %s: --vision_cache_gb %g is reached; no more is kept", self.root, self.max_gb)
        self._is_full = True
        return False

    def _measure_room(self) -> float:
        if self.max_gb is None:
            return float("inf")
        used = sum(file.stat().st_size for file in self.root.rglob("*.features"))
        return (self.max_gb * 1e9 - used) / self.world
