"""Registry of the open tabs: whose they are, which are commented for, and which wait in line for it."""

import asyncio
import contextlib
import ctypes
import logging
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from demo.live.allowed_sources import AllowedSources
from demo.live.api_error import RETRY_S, ApiError, error_text
from demo.web.options import ViewerArguments
from demo.web.tab import PlayRequest, Tab
from demo.web.videos import Video, Videos
from models.streaming.engine import Engine, EngineFull
from utils.errors import UserError

log = logging.getLogger(__name__)

SWEEP_S = 1.0
TRIM_S = 30.0
GRACE_S = 60.0  # that a tab which lost its connection may take to come back; its place is given up at once
MOST_TABS = 256  # tabs, watching or not
CONVERSATION_IDLE_S = 300.0


class TabRegistry:
    """Tabs by id, one engine for all of them. All methods belong to one event loop."""

    def __init__(self, engine: Engine, options: ViewerArguments, js_monitor: bool):
        self.engine, self.options, self.js_monitor = engine, options, js_monitor
        self.checkpoint = engine.checkpoint
        self.model_name = Path(engine.checkpoint.name).name
        self.videos = Videos(options.examples, options.max_upload_mb * 2**20, options.max_minutes * 60)
        self.allowed = AllowedSources(options.allow_urls)
        self.tabs: dict[str, Tab] = {}
        self.seated: set[Tab] = set()
        self.waiting: list[Tab] = []
        self.renderer = ThreadPoolExecutor(1, thread_name_prefix="render")
        self._sweeping: asyncio.Task | None = None
        self._admitting = asyncio.Lock()
        self._trimmed_s = time.monotonic()

    @property
    def n_running(self) -> int:
        """How many tabs are commented for."""
        return sum(tab.run is not None for tab in self.seated)

    def start(self) -> None:
        """Begin to look after the tabs."""
        self._sweeping = asyncio.create_task(self._sweep_for_ever())

    async def close(self) -> None:
        """End all commentaries, stop the engine and delete the uploads."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for tab in list(self.tabs.values()):
            tab.tell("end", message="The server was stopped.")
            await tab.close()
        self.renderer.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.engine.close)
        self.videos.close()

    # tabs

    def connect(self, tab_id: str | None, owner: str) -> tuple[Tab, bool]:
        """Register a tab that connects, a new one or one that comes back: (tab, whether it came back)."""
        known = self.tabs.get(tab_id or "")
        if known is not None and known.owner == owner:
            known.n_connected += 1
            return known, True
        if len(self.tabs) >= MOST_TABS:
            raise ApiError(503, f"{MOST_TABS} tabs are open here", next_step="try again later", retry_s=RETRY_S)
        tab = Tab(secrets.token_hex(16), owner, self)
        tab.n_connected = 1
        self.tabs[tab.id] = tab
        return tab, False

    async def disconnect(self, tab: Tab) -> None:
        """Unregister a connection of a tab; with the last one, whatever it cost the model is given back at once."""
        tab.n_connected -= 1
        tab.left_s = time.monotonic()
        if not tab.n_connected:
            await tab.close()

    def get(self, tab_id: str, owner: str) -> Tab:
        """The tab of an id. Raises ApiError where it is not this owner's, in the same words as where it is none."""
        tab = self.tabs.get(tab_id)
        if tab is None or tab.owner != owner:
            raise ApiError(404, f"viewer {tab_id[:40]!r} is not here", next_step="load the page again")
        return tab

    def forget_video(self, tab: Tab, video: Video) -> None:
        """Note that a tab does not watch a video any more: an upload that nobody watches is deleted."""
        if not any(other.video is video for other in self.tabs.values() if other is not tab):
            self.videos.remove(video)

    # places

    async def admit(self, tab: Tab, request: PlayRequest) -> None:
        """Start a tab's commentary as requested, or put the tab in line."""
        tab.play_request = request
        if tab in self.seated:
            try:
                await tab.begin()
                return
            except EngineFull:
                self.seated.discard(tab)
                self.waiting.insert(0, tab)
            except Exception:  # passed on; whoever could not begin keeps no place
                self.leave(tab)
                raise
        elif tab not in self.waiting:
            self.waiting.append(tab)
        await self._fill()
        self._tell_places()

    def leave(self, tab: Tab) -> None:
        """Give a tab's place up, in line or not."""
        tab.play_request = None
        self.seated.discard(tab)
        if tab in self.waiting:
            self.waiting.remove(tab)
            self._tell_places()

    def check_conversations(self) -> None:
        """Raise ApiError where there are conversations enough."""
        if sum(tab.conversation is not None for tab in self.tabs.values()) >= self.options.max_sessions:
            raise ApiError(
                503, f"{self.options.max_sessions} others talk about their videos now",
                limit=self.options.max_sessions, next_step="try again in a few minutes", retry_s=RETRY_S,
            )  # fmt: skip

    async def _fill(self) -> None:
        """Start the commentaries of those who wait, in their order, while there is room."""
        async with self._admitting:
            while self.waiting and len(self.seated) < self.options.max_sessions:
                tab = self.waiting[0]
                try:
                    self.seated.add(tab)
                    await tab.begin()
                except EngineFull:
                    self.seated.discard(tab)
                    return
                except (ApiError, UserError) as error:
                    self.leave(tab)
                    tab.tell("refused", message=error_text(error))
                except Exception:  # one tab's fault; the others in line have their turn
                    self.leave(tab)
                    log.exception("a commentary could not be started")
                    tab.tell("error", message="The commentary could not be started; the server's log says why.")
                if tab in self.waiting:
                    self.waiting.remove(tab)
                    self._tell_places()

    def _tell_places(self) -> None:
        for place, tab in enumerate(self.waiting, 1):
            tab.tell("queued", place=place, n_waiting=len(self.waiting), n_running=len(self.seated))

    # looking after them

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self._sweep()
            except Exception:  # one tab's fault; the others are looked after next time
                log.exception("looking after the tabs failed")

    async def _sweep(self) -> None:
        stats = await asyncio.to_thread(self.engine.stats)
        for tab in list(self.tabs.values()):
            if not tab.n_connected:
                if time.monotonic() - tab.left_s > GRACE_S:
                    self._forget(tab)
                continue
            tab.tell_load(stats)
            self._pass_on_events(tab)
            await self._end_idle(tab)
        await self._fill()
        watched = {tab.video.id for tab in self.tabs.values() if tab.video is not None}
        self.videos.remove_unwatched(watched, GRACE_S)
        if time.monotonic() - self._trimmed_s > TRIM_S:
            self._trimmed_s = time.monotonic()
            await asyncio.to_thread(give_memory_back)

    def _pass_on_events(self, tab: Tab) -> None:
        run = tab.run
        while run is not None and run.source is not None and not run.source.events.empty():
            tab.tell("note", message=run.source.events.get())

    async def _end_idle(self, tab: Tab) -> None:
        if tab.idle_s() > self.options.idle_minutes * 60:
            await tab.stop()
            minutes = f"{self.options.idle_minutes:g} minutes"
            message = f"Nothing was played for {minutes}: the place was given up. Press play to go on."
            tab.tell("finished", run=tab.n_runs, reason="idle", n_steps=0, n_words=0)
            tab.tell("note", message=message)
        if tab.conversation is not None and time.monotonic() - tab.conversation.used_s > CONVERSATION_IDLE_S:
            tab.conversation.close()
            tab.conversation = None

    def _forget(self, tab: Tab) -> None:
        self.tabs.pop(tab.id, None)
        self.leave(tab)
        tab.log.append({"type": "end"})
        if tab.video is not None:
            self.forget_video(tab, tab.video)
        if tab.render is not None:
            tab.render.remove()


def give_memory_back() -> None:
    """Return freed memory to the system: glibc keeps what decoders of videos free, over 100 MB, for itself."""
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such function, nor need of it
        ctypes.CDLL(None).malloc_trim(0)
