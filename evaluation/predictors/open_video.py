"""Open video file, kept open for all clips of it that follow each other."""

from data.video.clip import VideoFile
from evaluation.tasks.item import ClipPlan


class OpenVideo:
    """At most one open file, as a context manager. Clips under one video_id may be of several files."""

    def __init__(self):
        self._path = ""
        self._file: VideoFile | None = None

    def of(self, plan: ClipPlan) -> VideoFile:
        """Open the plan's file and close another one. Raises VideoError."""
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
