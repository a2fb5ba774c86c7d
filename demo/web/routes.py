"""The page's own routes: its files, videos, uploads, what is taken home, and the WebSocket of each tab."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request, WebSocket
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect

from demo.live.access import AuthMiddleware
from demo.live.api_error import ApiError, error_text
from demo.web.page import add_page
from demo.web.page_auth import Browsers, PageAuthMiddleware
from demo.web.tab import Tab
from demo.web.tab_registry import TabRegistry
from demo.web.tab_socket import serve_tab
from demo.web.takeaway import MEDIA_TYPES, written
from utils.errors import UserError

log = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")
UPLOADS = "/live/uploads"
MOST_UPLOADS = 2  # of one browser at a time


def create_page_app(registry: TabRegistry, credentials: str | None = None, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The application on Viewers, which it starts and closes. hosts: names under which it may be addressed."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        registry.start()
        yield
        await registry.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _add_videos(app, registry)
    _add_takeaway(app, registry)
    _add_problems(app)

    @app.websocket("/live/socket")
    async def tab(socket: WebSocket) -> None:
        await socket.accept()
        await serve_tab(socket, registry, socket.state.owner)

    app.mount("/live/static", StaticFiles(directory=STATIC), name="static files of the page")
    add_page(app, registry.checkpoint)
    app.add_middleware(PageAuthMiddleware, browsers=Browsers(), credentials=credentials)
    app.add_middleware(
        AuthMiddleware, token=None, hosts=list(hosts), max_frame_bytes=registry.videos.max_bytes, frames_path=UPLOADS
    )
    return app


def _add_videos(app: FastAPI, registry: TabRegistry) -> None:
    uploading: dict[str, int] = {}

    @app.post(UPLOADS, status_code=201)
    async def upload(request: Request, name: Annotated[str, Query(max_length=1000)] = "video") -> dict:
        owner = request.state.owner
        if uploading.get(owner, 0) >= MOST_UPLOADS:
            raise ApiError(
                429, f"{MOST_UPLOADS} videos are being uploaded", next_step="wait for one of them", retry_s=5
            )
        uploading[owner] = uploading.get(owner, 0) + 1
        try:
            path = await registry.videos.take(request.stream())
            video = await asyncio.to_thread(registry.videos.add, path, name, owner)
        except ClientDisconnect:
            raise ApiError(400, "the upload broke off") from None
        finally:
            uploading[owner] -= 1
            if not uploading[owner]:
                del uploading[owner]
        return video.record()

    @app.get("/live/media/{video_id}")
    async def media(video_id: str, request: Request) -> Response:
        video = registry.videos.get(video_id, request.state.owner)
        return FileResponse(video.path, media_type=video.media_type, headers={"Cache-Control": "private, no-store"})

    @app.get("/live/thumbnails/{video_id}")
    async def thumbnail(video_id: str, request: Request) -> Response:
        video = registry.videos.get(video_id, request.state.owner)
        jpeg = await asyncio.to_thread(registry.videos.thumbnail, video)
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def _add_takeaway(app: FastAPI, registry: TabRegistry) -> None:
    def named(tab: Tab, suffix: str) -> dict:
        """A header that saves under the video's name; only plain letters of it, since it is a header."""
        name = tab.video.name if tab.video else "commentary"
        stem = "".join(c for c in Path(name).stem if c.isascii() and (c.isalnum() or c in "-_")) or "commentary"
        return {"Content-Disposition": f'attachment; filename="{stem}.{suffix}"', "Cache-Control": "private, no-store"}

    @app.get("/live/viewers/{tab_id}/commentary.{form}")
    async def commentary(tab_id: str, form: str, request: Request) -> Response:
        tab = registry.get(tab_id, request.state.owner)
        if form not in MEDIA_TYPES:
            raise ApiError(404, f"no form {form[:20]!r}", next_step=f"take {', '.join(MEDIA_TYPES)}")
        text = written(tab, form)
        return Response(text, media_type=f"{MEDIA_TYPES[form]}; charset=utf-8", headers=named(tab, form))

    @app.get("/live/viewers/{tab_id}/video.mp4")
    async def video(tab_id: str, request: Request) -> Response:
        tab = registry.get(tab_id, request.state.owner)
        if tab.render is None or not tab.render.done:
            raise ApiError(404, "no video was made yet", next_step="press the button for it, and wait")
        return FileResponse(tab.render.path, media_type="video/mp4", headers=named(tab, "captions.mp4"))


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        return JSONResponse({"message": error_text(error), **error.detail}, error.status_code, error.headers)

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        log.warning("%s %s: %s", request.method, request.url.path, error)
        return JSONResponse({"message": "This cannot be read; the server's log says why."}, 422)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return PlainTextResponse("Something failed here; the server's log says what.", 500)
