"""Clips kept on disk after decoding and resizing, so that a second epoch reads bytes instead of decoding.

A safetensors file a clip: frames, uint8 [n, 3, H, W], mapped into memory when read, their indices and times, and in the
header what made it. A file that was not made of the request and the video as it is now is made again, so nothing has to
be deleted by hand when a video, a limit or a rule changes.
"""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import torch

from data.video.clip import Rule, read_clip
from data.video.container import VideoError
from data.video.frame_plan import Clip, FramePlan, FrameTimes, VideoLimits
from data.video.tensor_file import read_tensors, write_tensors
from utils.errors import UserError

VERSION = 3  # raise it when decoding or resizing changes a pixel, or the file's tensors change


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
            options = {"limits": limits, "rule": rule, "frame_times": frame_times, "float_resize": float_resize}
            clip = read_clip(path, start_s, end_s, **options)
            self._store(place, made_of, clip)
        return clip

    def _place(self, path: str, request: dict) -> Path:
        """Return a clip's file. A changed video keeps its place, so that its old clips are written over."""
        name = hashlib.sha256(json.dumps([path, request], sort_keys=True).encode()).hexdigest()[:40]
        return self.folder / name[:2] / f"{name}.clip"

    def _store(self, place: Path, made_of: dict, clip: Clip) -> None:
        tensors = {
            "frames": clip.frames.contiguous(),
            "indices": torch.from_numpy(clip.plan.indices),
            "times_s": torch.from_numpy(clip.times_s),
        }
        try:
            write_tensors(
                place, tensors, made_of, {"n_padded": clip.plan.n_padded, "frame_s": clip.plan.frame_s}, sync=True
            )
        except OSError as error:
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


def _load(place: Path, made_of: dict) -> Clip | None:
    """Return a stored clip, or None where there is none, or one of another video, request or length."""
    kept = read_tensors(place, made_of)
    if kept is None or "frame_s" not in kept[0]:  # clips of earlier versions do not say it
        return None
    facts, tensors = kept
    plan = FramePlan(tensors["indices"].numpy(), tensors["times_s"].numpy(), facts["n_padded"], facts["frame_s"])
    return Clip(tensors["frames"], plan.times_s, plan)
