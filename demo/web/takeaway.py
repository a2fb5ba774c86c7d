"""What a viewer takes home: subtitles, JSON, text, and the video with its captions."""

import asyncio
import logging
import os
import threading
from pathlib import Path

from demo.live.api_error import ApiError
from demo.web.tab import Tab
from utils.errors import UserError

log = logging.getLogger(__name__)

NICENESS = 10  # of drawing captions, which must not slow live ones down
MEDIA_TYPES = {
    "srt": "application/x-subrip", "vtt": "text/vtt", "json": "application/json", "txt": "text/plain",
}  # fmt: skip


class Cancelled(Exception):
    """The rendering is not wanted any more."""


def written(tab: Tab, form: str) -> str:
    """The tab's commentary in a form of MEDIA_TYPES. Raises ApiError where nothing was said."""
    from demo.render import subtitles
    from demo.render.commentary import FinishedCommentary

    commentary = tab.commentary()
    if not commentary.steps and not commentary.questions:
        raise ApiError(409, "nothing was said yet", next_step="press play, and come back")
    forms = {
        "srt": subtitles.srt, "vtt": subtitles.vtt, "txt": subtitles.plain_text, "json": FinishedCommentary.to_json,
    }  # fmt: skip
    return forms[form](commentary)


class RenderJob:
    """Job that makes a video with captions, one for a tab at a time; many wait for each other."""

    def __init__(self, tab: Tab):
        self.tab, self.video, self.commentary = tab, tab.video, tab.commentary()
        self.path: Path = tab.registry.videos.folder / f"{self.video.id}_{id(self)}.mp4"
        self.done = False
        self._cancelled = threading.Event()
        self._shown = -1

    def start(self) -> None:
        """Queue it."""
        self.tab.registry.renderer.submit(self._render)

    def cancel(self) -> None:
        """End it before its next frame; what is finished stays."""
        self._cancelled.set()

    def remove(self) -> None:
        """End it and delete its file."""
        self.cancel()
        self.path.unlink(missing_ok=True)

    def _render(self) -> None:
        from demo.render.video import render

        try:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        except (AttributeError, OSError):  # not every system knows priorities of threads
            log.debug("rendering runs at normal priority")
        try:
            self._progress(0, 1)
            render(self.video.path, self.commentary, self.path, overwrite=True, progress=self._progress)
            self.done = True
            self._tell(share=1.0, url=f"/live/viewers/{self.tab.id}/video.mp4")
        except Cancelled:
            self.path.unlink(missing_ok=True)
        except UserError as error:
            self._tell(error=str(error).replace(str(self.video.path), self.video.name))
        except Exception:  # the thread's outermost frame: nobody else would tell the page
            log.exception("a video could not be rendered")
            self._tell(error="The video could not be made; the server's log says why.")

    def _progress(self, n_done: int, n_frames: int) -> None:
        if self._cancelled.is_set():
            raise Cancelled
        percent = 100 * n_done // max(1, n_frames)
        if percent != self._shown:
            self._shown = percent
            self._tell(share=min(percent, 99) / 100)

    def _tell(self, **fields) -> None:
        self.tab.tell("render", **fields)


async def start_rendering(tab: Tab) -> None:
    """Make the video with what was said so far. Raises ApiError where there is no file or nothing was said."""
    if tab.video is None:
        raise ApiError(409, "there is no video file to draw into", next_step="take the subtitles instead")
    written(tab, "json")
    if tab.render is not None:
        await asyncio.to_thread(tab.render.remove)
    tab.render = RenderJob(tab)
    tab.render.start()
