"""Clips kept on disk after decoding and resizing, so that a second epoch reads bytes instead of decoding.

One file a clip: a JSON header that says what made it, the plan, and the frames, uint8 [n, 3, H, W], mapped
into memory when read. A file whose header does not fit the request and the video as it is now is made again,
so nothing has to be deleted by hand when a video, a limit or a rule changes.
"""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from data.video.clip import Rule, read_clip
from data.video.container import VideoError
from data.video.frame_plan import Clip, FramePlan, FrameTimes, VideoLimits
from utils.errors import UserError

VERSION = 1  # raise it when decoding or resizing changes a pixel, or this file's layout changes
MAX_HEADER = 1 << 16  # bytes; the length of a damaged file's header may be any number
ALIGNMENT = 64  # bytes; arrays start at multiples of it


class DecodeCache:
    """A folder of decoded clips that several processes may read and fill at once.

    folder: made where it is missing. Raises UserError where it cannot be made or written.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"decode cache {self.folder}: {error.strerror}; choose another folder") from error

    def read_clip(
        self,
        path: str | os.PathLike,
        start_s: float | None = None,
        end_s: float | None = None,
        *,
        limits: VideoLimits,
        rule: Rule = "stream",
        frame_times: FrameTimes = "grid",
        float_resize: bool = False,
    ) -> Clip:
        """Return the clip that data.video.clip.read_clip would, from the cache where it holds it.

        The frames of a clip from the cache are a private view of the file: writing to them does not change
        it. Raises VideoError as read_clip does, UserError where the disk is full.
        """
        request = clip_request(start_s, end_s, limits, rule, frame_times, float_resize)
        made_of = {**request, "version": VERSION, **identity_of(path)}
        place = self._place(made_of["path"], request)
        clip = _load(place, made_of)
        if clip is None:
            clip = read_clip(
                path,
                start_s,
                end_s,
                limits=limits,
                rule=rule,
                frame_times=frame_times,
                float_resize=float_resize,
            )
            self._store(place, made_of, clip)
        return clip

    def _place(self, path: str, request: dict) -> Path:
        """Return a clip's file. A changed video keeps its place, so that its old clips are written over."""
        name = hashlib.sha256(json.dumps([path, request], sort_keys=True).encode()).hexdigest()[:40]
        return self.folder / name[:2] / f"{name}.clip"

    def _store(self, place: Path, made_of: dict, clip: Clip) -> None:
        """Write a clip under another name and move it into place, so that no reader ever sees half of one."""
        temporary = None
        try:
            place.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=place.parent, suffix=".partial", delete=False) as file:
                temporary = file.name
                _write(file, made_of, clip)
                # On the disk before its name is: a machine that goes down would otherwise leave a file of the
                # right length with holes in it.
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, place)
        except OSError as error:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
            size_mb = clip.frames.numel() / 1e6
            raise UserError(
                f"decode cache {self.folder}: {size_mb:.0f} MB cannot be written: {error.strerror}; "
                f"free space there, choose another folder, or run without the cache"
            ) from error


def clip_request(
    start_s: float | None,
    end_s: float | None,
    limits: VideoLimits,
    rule: Rule,
    frame_times: FrameTimes,
    float_resize: bool = False,
) -> dict:
    """Return what is asked of a clip, as JSON values: all that decides its frames besides the video."""
    window = [None if bound is None else float(bound) for bound in (start_s, end_s)]
    return {
        "window": window,
        "limits": asdict(limits),
        "rule": rule,
        "frame_times": frame_times,
        "float_resize": float_resize,
    }


def identity_of(path: str | os.PathLike) -> dict:
    """Return what tells a video file from another and from itself before a change. Raises VideoError."""
    try:
        stat = os.stat(path)
    except OSError as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror}; check the path") from error
    return {"path": os.path.realpath(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _write(file, made_of: dict, clip: Clip) -> None:
    """Write the header's length in 8 bytes, the header, and from an aligned place on indices, times and
    frames."""
    header = {**made_of, "shape": list(clip.frames.shape), "n_padded": clip.plan.n_padded}
    encoded = json.dumps(header).encode()
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    file.write(bytes(-file.tell() % ALIGNMENT))
    file.write(clip.plan.indices.astype("<i8").tobytes() + clip.times_s.astype("<f8").tobytes())
    for frame in clip.frames:
        file.write(np.ascontiguousarray(frame.numpy()).data)


def _load(place: Path, made_of: dict) -> Clip | None:
    """Return a stored clip, or None where there is none, or one of another video, request or length."""
    try:
        with open(place, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, MAX_HEADER)))
            start = file.tell() + -file.tell() % ALIGNMENT
        shape, n_padded = header.pop("shape"), header.pop("n_padded")
        numbers = 16 * shape[0]
        whole = place.stat().st_size == start + numbers + int(np.prod(shape))
        if header != made_of or not whole:
            return None
        # Copy on write: torch wants memory that it may write to, and the file must stay as it is.
        stored = np.memmap(place, np.uint8, "c", offset=start)
    except (OSError, ValueError, KeyError, TypeError):  # not there, or cut off when a machine went down
        return None
    indices, times_s = stored[: numbers // 2].view("<i8"), stored[numbers // 2 : numbers].view("<f8")
    frames = torch.from_numpy(stored[numbers:].reshape(shape))
    plan = FramePlan(np.array(indices), np.array(times_s), n_padded)
    return Clip(frames, plan.times_s, plan)
