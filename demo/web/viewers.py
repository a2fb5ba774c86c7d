"""All viewers: who they are, who is commented for, and who waits in line for it."""

import asyncio
import contextlib
import ctypes
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from demo.live.allowed_sources import AllowedSources
from demo.live.refusal import RETRY_S, Refusal
from demo.web.options import ViewerArguments
from demo.web.videos import Video, Videos
from demo.web.viewer import Viewer, Wish
from models.streaming.engine import Engine, EngineFull
from utils.errors import UserError

log = logging.getLogger(__name__)

SWEEP_S = 1.0
TRIM_S = 30.0
GRACE_S = 60.0  # that a tab which lost its connection may take to come back; its place is given up at once
MOST_VIEWERS = 256  # tabs, watching or not
TALK_IDLE_S = 300.0


class Viewers:
    """Viewers by id, one engine for all of them. All methods belong to one event loop."""

    def __init__(self, engine: Engine, options: ViewerArguments, js_monitor: bool):
        self.engine, self.options, self.js_monitor = engine, options, js_monitor
        self.checkpoint = engine.checkpoint
        self.model_name = Path(engine.checkpoint.name).name
        self.videos = Videos(options.examples, options.max_upload_mb * 2**20, options.max_minutes * 60)
        self.allowed = AllowedSources(options.allow_urls)
        self.viewers: dict[str, Viewer] = {}
        self.seated: set[Viewer] = set()
        self.waiting: list[Viewer] = []
        self.renderer = ThreadPoolExecutor(1, thread_name_prefix="render")
        self._sweeping: asyncio.Task | None = None
        self._admitting = asyncio.Lock()
        self._trimmed_s = time.monotonic()

    @property
    def n_running(self) -> int:
        """Viewers who are commented for."""
        return sum(viewer.run is not None for viewer in self.seated)

    def start(self) -> None:
        """Begin to look after the viewers."""
        self._sweeping = asyncio.create_task(self._sweep_for_ever())

    async def close(self) -> None:
        """End all commentaries, stop the engine and delete the uploads."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for viewer in list(self.viewers.values()):
            viewer.tell("end", message="The server was stopped.")
            await viewer.close()
        self.renderer.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.engine.close)
        self.videos.close()

    # tabs

    def connect(self, viewer_id: str | None, owner: str) -> tuple[Viewer, bool]:
        """The viewer of a tab that connects, a new one or one that comes back, and whether it came back."""
        known = self.viewers.get(viewer_id or "")
        if known is not None and known.owner == owner:
            known.n_connected += 1
            return known, True
        if len(self.viewers) >= MOST_VIEWERS:
            raise Refusal(503, f"{MOST_VIEWERS} tabs are open here", next_step="try again later", retry_s=RETRY_S)
        viewer = Viewer(secrets.token_hex(16), owner, self)
        viewer.n_connected = 1
        self.viewers[viewer.id] = viewer
        return viewer, False

    async def disconnect(self, viewer: Viewer) -> None:
        """A tab was closed, or lost its connection: whatever it cost the model is given back at once."""
        viewer.n_connected -= 1
        viewer.left_s = time.monotonic()
        if not viewer.n_connected:
            await viewer.close()

    def get(self, viewer_id: str, owner: str) -> Viewer:
        """The viewer of an id. Raises Refusal where it is not this owner's, in the same words as where it is none."""
        viewer = self.viewers.get(viewer_id)
        if viewer is None or viewer.owner != owner:
            raise Refusal(404, f"viewer {viewer_id[:40]!r} is not here", next_step="load the page again")
        return viewer

    def forget_video(self, viewer: Viewer, video: Video) -> None:
        """A viewer does not watch a video any more: an upload that nobody watches is deleted."""
        if not any(other.video is video for other in self.viewers.values() if other is not viewer):
            self.videos.remove(video)

    # places

    async def admit(self, viewer: Viewer, wish: Wish) -> None:
        """Start a viewer's commentary as wished, or put the viewer in line."""
        viewer.wish = wish
        if viewer in self.seated:
            try:
                await viewer.begin()
                return
            except EngineFull:
                self.seated.discard(viewer)
                self.waiting.insert(0, viewer)
            except Exception:  # passed on; whoever could not begin keeps no place
                self.leave(viewer)
                raise
        elif viewer not in self.waiting:
            self.waiting.append(viewer)
        await self._fill()
        self._tell_places()

    def leave(self, viewer: Viewer) -> None:
        """Give a viewer's place up, in line or not."""
        viewer.wish = None
        self.seated.discard(viewer)
        if viewer in self.waiting:
            self.waiting.remove(viewer)
            self._tell_places()

    def check_talks(self) -> None:
        """Raise Refusal where there are conversations enough."""
        if sum(viewer.talk is not None for viewer in self.viewers.values()) >= self.options.max_sessions:
            raise Refusal(
                503, f"{self.options.max_sessions} others talk about their videos now",
                limit=self.options.max_sessions, next_step="try again in a few minutes", retry_s=RETRY_S,
            )  # fmt: skip

    async def _fill(self) -> None:
        """Start the commentaries of those who wait, in their order, while there is room."""
        async with self._admitting:
            while self.waiting and len(self.seated) < self.options.max_sessions:
                viewer = self.waiting[0]
                try:
                    self.seated.add(viewer)
                    await viewer.begin()
                except EngineFull:
                    self.seated.discard(viewer)
                    return
                except (Refusal, UserError) as error:
                    self.leave(viewer)
                    viewer.tell("refused", message=words(error))
                except Exception:  # one viewer's fault; the others in line have their turn
                    self.leave(viewer)
                    log.exception("a commentary could not be started")
                    viewer.tell("error", message="The commentary could not be started; the server's log says why.")
                if viewer in self.waiting:
                    self.waiting.remove(viewer)
                    self._tell_places()

    def _tell_places(self) -> None:
        for place, viewer in enumerate(self.waiting, 1):
            viewer.tell("queued", place=place, n_waiting=len(self.waiting), n_running=len(self.seated))

    # looking after them

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self._sweep()
            except Exception:  # one viewer's fault; the others are looked after next time
                log.exception("looking after the viewers failed")

    async def _sweep(self) -> None:
        stats = await asyncio.to_thread(self.engine.stats)
        for viewer in list(self.viewers.values()):
            if not viewer.n_connected:
                if time.monotonic() - viewer.left_s > GRACE_S:
                    self._forget(viewer)
                continue
            viewer.tell_load(stats)
            self._pass_on_events(viewer)
            await self._end_idle(viewer)
        await self._fill()
        watched = {viewer.video.id for viewer in self.viewers.values() if viewer.video is not None}
        self.videos.remove_unwatched(watched, GRACE_S)
        if time.monotonic() - self._trimmed_s > TRIM_S:
            self._trimmed_s = time.monotonic()
            await asyncio.to_thread(give_memory_back)

    def _pass_on_events(self, viewer: Viewer) -> None:
        run = viewer.run
        while run is not None and run.source is not None and not run.source.events.empty():
            viewer.tell("note", message=run.source.events.get())

    async def _end_idle(self, viewer: Viewer) -> None:
        if viewer.idle_s() > self.options.idle_minutes * 60:
            await viewer.stop()
            minutes = f"{self.options.idle_minutes:g} minutes"
            message = f"Nothing was played for {minutes}: the place was given up. Press play to go on."
            viewer.tell("finished", run=viewer.n_runs, reason="idle", n_steps=0, n_words=0)
            viewer.tell("note", message=message)
        if viewer.talk is not None and time.monotonic() - viewer.talk.used_s > TALK_IDLE_S:
            viewer.talk.close()
            viewer.talk = None

    def _forget(self, viewer: Viewer) -> None:
        self.viewers.pop(viewer.id, None)
        self.leave(viewer)
        viewer.log.append({"type": "end"})
        if viewer.video is not None:
            self.forget_video(viewer, viewer.video)
        if viewer.render is not None:
            viewer.render.remove()


def give_memory_back() -> None:
    """Return freed memory to the system: glibc keeps what decoders of videos free, over 100 MB, for itself."""
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such function, nor need of it
        ctypes.CDLL(None).malloc_trim(0)


def words(error: Exception) -> str:
    """A refusal or an error of a user as sentences."""
    if not isinstance(error, Refusal):
        return str(error)
    detail = error.detail
    said = str(detail["error"])
    with contextlib.suppress(KeyError):
        said += f" (limit: {detail['limit']})" if detail["limit"] is not None else ""
        said += f": {detail['cause']}" if detail["cause"] else ""
        said += f"; {detail['next_step']}" if detail["next_step"] else ""
    return said[:1].upper() + said[1:] + "."
