"""WebSocket of a tab: what its player does and what its viewer asks come in, what is said goes out.

From the page, JSON text:

    {"type": "hello", "viewer": id or null, "after": seq}     first of all; an id comes back to what was interrupted
    {"type": "open", "video": id} or {"url": address} or {"webcam": true}
    {"type": "play" | "pause" | "seek" | "time" | "ended" | "rate", "time_s": 1.5, "rate": 1.0}
    {"type": "settings", "settings": {...}}                   demo/web/settings.py
    {"type": "ask", "question": "...", "about": "moment" | "whole"}
    {"type": "frame", "time_s": 1.5}                          the time of the webcam's next JPEG, a binary message
    {"type": "render"}

To the page: records with "type" and "seq" (demo/web/tab.py), and JPEGs of a source that only the server can open.
"""

import asyncio
import contextlib
import json
import logging
import time

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from demo.live.api_error import ApiError, error_text
from demo.live.bucket import TokenBucket
from demo.live.directions import until_one_ends
from demo.live.limits import LONGEST_S, POLICY_VIOLATION
from demo.web.player import FASTEST
from demo.web.settings import QUERY_CHARACTERS, Settings
from demo.web.tab import PlayRequest, Tab
from demo.web.tab_registry import TabRegistry
from demo.web.takeaway import start_rendering
from utils.errors import UserError

log = logging.getLogger(__name__)

MESSAGES_A_SECOND = 40.0
HELLO_S = 10.0


class Position(BaseModel):
    """Position of the page's player in seconds of the video, and its speed."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    time_s: float = Field(ge=0, le=LONGEST_S)
    rate: float = Field(1.0, gt=0)


async def serve_tab(socket: WebSocket, registry: TabRegistry, owner: str) -> None:
    """Serve an accepted WebSocket until the tab goes away."""
    with contextlib.suppress(WebSocketDisconnect):
        try:
            hello = _parse((await asyncio.wait_for(socket.receive(), HELLO_S)).get("text"))
            after = hello.get("after")
            tab, resumed = registry.connect(_text(hello.get("viewer"), 80), owner)
        except (ApiError, TimeoutError) as error:
            message = error_text(error) if isinstance(error, ApiError) else "Nothing came from the page."
            await socket.send_text(json.dumps({"type": "refused", "message": message}))
            await socket.close(POLICY_VIOLATION)
            return
        try:
            await TabSocket(socket, registry, tab).serve(after if resumed and isinstance(after, int) else 0, resumed)
        finally:
            await asyncio.shield(registry.disconnect(tab))


class TabSocket:
    """Session of a tab's WebSocket: records and pictures go out, messages come in."""

    def __init__(self, socket: WebSocket, registry: TabRegistry, tab: Tab):
        self.socket, self.registry, self.tab = socket, registry, tab
        self._bucket = TokenBucket(MESSAGES_A_SECOND)
        self._time_s = 0.0  # of the next JPEG
        self._sending = asyncio.Lock()

    async def serve(self, after: int, resumed: bool) -> None:
        """Pass messages on until the tab goes away."""
        welcome = {
            "type": "welcome", "viewer": self.tab.id, "resumed": resumed, "js_monitor": self.registry.js_monitor,
            "model": self.registry.model_name, "fastest": FASTEST,
            "examples": [video.record() for video in self.registry.videos.examples],
            "urls": bool(self.registry.options.allow_urls),
            "max_upload_mb": self.registry.options.max_upload_mb, "max_minutes": self.registry.options.max_minutes,
        }  # fmt: skip
        await self._send(json.dumps(welcome))
        await until_one_ends(self._tell(after), self._show(), self._listen())
        with contextlib.suppress(RuntimeError):
            await self.socket.close()

    async def _tell(self, after: int) -> None:
        async for record in self.tab.log.follow(after):
            if record is not None:
                await self._send(json.dumps(record, ensure_ascii=False))

    async def _show(self) -> None:
        while True:
            picture = await self.tab.preview.take()
            async with self._sending:
                await self.socket.send_bytes(picture)

    async def _send(self, text: str) -> None:
        async with self._sending:
            await self.socket.send_text(text)

    async def _listen(self) -> None:
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            try:
                await self._take(message)
            except (ApiError, UserError) as error:
                self.tab.tell("refused", message=error_text(error))
            except Exception:  # one message's fault; the page goes on and is told
                log.exception("a page's message failed")
                self.tab.tell("error", message="Something failed here; the server's log says what.")

    async def _take(self, message: dict) -> None:
        if (wait_s := self._bucket.take(time.monotonic())) > 0:
            await asyncio.sleep(wait_s)
        if message.get("bytes") is not None:
            await self.tab.push(message["bytes"], self._time_s)
            return
        request = _parse(message.get("text"))
        handler = HANDLERS.get(request.get("type") if isinstance(request.get("type"), str) else None)
        if handler is None:
            raise ApiError(422, "a message of an unknown type", next_step="load the page again")
        await handler(self, request)

    async def open(self, request: dict) -> None:
        """Choose what is watched."""
        if request.get("webcam"):
            await self.tab.open(None, "webcam")
        elif request.get("url") is not None:
            spec = await asyncio.to_thread(self.registry.allowed.check, _url(request["url"]))
            await self.tab.open(None, "url", spec)
        else:
            video = self.registry.videos.get(_text(request.get("video"), 80) or "", self.tab.owner)
            await self.tab.open(video)

    async def move(self, request: dict) -> None:
        """Follow the player."""
        tab, kind, position = self.tab, request["type"], _position(request)
        time_s, rate = position.time_s, position.rate
        if kind == "play":
            await tab.play(time_s, rate)
        elif kind == "pause":
            tab.pause(time_s)
        elif kind == "seek":
            await tab.seek(time_s)
        elif kind == "time":
            await tab.report(time_s)
        elif kind == "rate":
            tab.set_rate(rate)
        elif kind == "ended":
            tab.finish()
        else:
            self._time_s = time_s

    async def configure(self, request: dict) -> None:
        """Take the viewer's choices; a commentary that runs starts anew with them."""
        try:
            settings = Settings.model_validate(request.get("settings"))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = ".".join(map(str, first["loc"])) or "settings"
            raise ApiError(422, f"{name}: {first['msg']}", limit=f"{QUERY_CHARACTERS} characters") from None
        tab = self.tab
        if tab.configure(settings):
            player = tab.run.player
            play_request = (
                PlayRequest(player.now(), player.playing, player.rate, "settings")
                if player
                else PlayRequest(0.0, why="settings")
            )
            await self.registry.admit(tab, play_request)

    async def ask(self, request: dict) -> None:
        """Ask."""
        question, about = _text(request.get("question"), QUERY_CHARACTERS), request.get("about")
        if not question or not question.strip():
            raise ApiError(422, "the question is empty or too long", limit=f"{QUERY_CHARACTERS} characters")
        await self.tab.ask(" ".join(question.split()), "whole" if about == "whole" else "moment")

    async def render(self, request: dict) -> None:
        """Draw the captions into the video."""
        await start_rendering(self.tab)


HANDLERS = {
    "open": TabSocket.open, "settings": TabSocket.configure, "ask": TabSocket.ask, "render": TabSocket.render,
    **dict.fromkeys(("play", "pause", "seek", "time", "rate", "ended", "frame"), TabSocket.move),
}  # fmt: skip


def _parse(text: str | None) -> dict:
    try:
        request = json.loads(text or "")
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise ApiError(422, "a message that is no JSON object", next_step="load the page again")
    return request


def _text(value, most: int) -> str | None:
    return value if isinstance(value, str) and len(value) <= most else None


def _url(value) -> str:
    """An address; whatever else names a source (files, cameras, pipes) is none."""
    text = _text(value, 2000) or ""
    if "://" not in text:
        raise ApiError(422, f"{text[:80]!r} is no address", next_step="write one that begins with http:// or rtsp://")
    return text


def _position(request: dict) -> Position:
    try:
        return Position.model_validate(request)
    except ValidationError as error:
        is_time = error.errors()[0]["loc"] == ("time_s",)
        said = "a time that is no number of seconds" if is_time else "a speed that is no number"
        raise ApiError(422, said, next_step="load the page again") from None
