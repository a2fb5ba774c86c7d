"""Open video file, kept open for all clips of it that follow each other, and the frames of a plan."""

import dataclasses

from data.video.clip import VideoFile
from data.video.frame_folder import read_frame_folder
from data.video.frame_plan import Clip, VideoLimits
from evaluation.tasks.item import ClipPlan


class OpenVideo:
    """At most one open file, as a context manager. Clips under one video_id may be of several files."""

    def __init__(self):
        self._path = ""
        self._file: VideoFile | None = None

    def of(self, plan: ClipPlan) -> VideoFile | None:
        """Open the plan's file and close another one; None for a folder of frames. Raises VideoError."""
        if plan.folder_fps is not None:
            return None
        if self._file is None or plan.video != self._path:
            self._close()
            self._file, self._path = VideoFile(plan.video), plan.video
        return self._file

    def __enter__(self) -> "OpenVideo":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def read_plan(plan: ClipPlan, video: VideoFile | None, limits: VideoLimits, float_resize: bool = False) -> Clip:
    """The frames of a plan, within a model's limits; video: its file, open, or None for a folder. Raises VideoError."""
    limits = plan_limits(plan, limits)
    if video is None:
        return read_frame_folder(plan.video, plan.folder_fps, plan.start_s, plan.end_s, limits=limits)
    return video.clip(
        plan.start_s,
        plan.end_s,
        limits=limits,
        rule=plan.rule,
        frame_times=plan.frame_times,
        float_resize=float_resize,
    )


def plan_limits(plan: ClipPlan, limits: VideoLimits) -> VideoLimits:
    """A model's limits, narrowed to those of a plan."""
    most = min(limits.max_frames, plan.max_frames or limits.max_frames)
    least = min(most, max(limits.min_frames, plan.min_frames or 0))
    limits = dataclasses.replace(limits, max_frames=most, min_frames=least)
    if plan.max_pixels is None:
        return limits
    return dataclasses.replace(limits, max_pixels=min(plan.max_pixels, limits.max_pixels or plan.max_pixels))
