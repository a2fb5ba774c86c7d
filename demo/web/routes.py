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

from demo.live.access import Gate
from demo.live.refusal import Refusal
from demo.web.gate import Browsers, PageGate
from demo.web.page import add_page
from demo.web.socket import serve_tab
from demo.web.takeaway import MEDIA_TYPES, written
from demo.web.viewer import Viewer
from demo.web.viewers import Viewers, words
from utils.errors import UserError

log = logging.getLogger(__name__)

STATIC = Path(__file__).with_name("static")
UPLOADS = "/live/uploads"
MOST_UPLOADS = 2  # of one browser at a time


def create_app(viewers: Viewers, credentials: str | None = None, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The application on Viewers, which it starts and closes. hosts: names under which it may be addressed."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        viewers.start()
        yield
        await viewers.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _add_videos(app, viewers)
    _add_takeaway(app, viewers)
    _add_problems(app)

    @app.websocket("/live/socket")
    async def tab(socket: WebSocket) -> None:
        await socket.accept()
        await serve_tab(socket, viewers, socket.state.owner)

    app.mount("/live/static", StaticFiles(directory=STATIC), name="static files of the page")
    add_page(app, viewers.checkpoint)
    app.add_middleware(PageGate, browsers=Browsers(), credentials=credentials)
    app.add_middleware(
        Gate, token=None, hosts=list(hosts), max_frame_bytes=viewers.videos.max_bytes, frames_path=UPLOADS
    )
    return app


def _add_videos(app: FastAPI, viewers: Viewers) -> None:
    uploading: dict[str, int] = {}

    @app.post(UPLOADS, status_code=201)
    async def upload(request: Request, name: Annotated[str, Query(max_length=1000)] = "video") -> dict:
        owner = request.state.owner
        if uploading.get(owner, 0) >= MOST_UPLOADS:
            raise Refusal(429, f"{MOST_UPLOADS} videos are being uploaded", next_step="wait for one of them", retry_s=5)
        uploading[owner] = uploading.get(owner, 0) + 1
        try:
            path = await viewers.videos.take(request.stream())
            video = await asyncio.to_thread(viewers.videos.add, path, name, owner)
        except ClientDisconnect:
            raise Refusal(400, "the upload broke off") from None
        finally:
            uploading[owner] -= 1
            if not uploading[owner]:
                del uploading[owner]
        return video.record()

    @app.get("/live/media/{video_id}")
    async def media(video_id: str, request: Request) -> Response:
        video = viewers.videos.get(video_id, request.state.owner)
        return FileResponse(video.path, media_type=video.media_type, headers={"Cache-Control": "private, no-store"})

    @app.get("/live/thumbnails/{video_id}")
    async def thumbnail(video_id: str, request: Request) -> Response:
        video = viewers.videos.get(video_id, request.state.owner)
        jpeg = await asyncio.to_thread(viewers.videos.thumbnail, video)
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def _add_takeaway(app: FastAPI, viewers: Viewers) -> None:
    def named(viewer: Viewer, suffix: str) -> dict:
        """A header that saves under the video's name; only plain letters of it, since it is a header."""
        name = viewer.video.name if viewer.video else "commentary"
        stem = "".join(c for c in Path(name).stem if c.isascii() and (c.isalnum() or c in "-_")) or "commentary"
        return {"Content-Disposition": f'attachment; filename="{stem}.{suffix}"', "Cache-Control": "private, no-store"}

    @app.get("/live/viewers/{viewer_id}/commentary.{form}")
    async def commentary(viewer_id: str, form: str, request: Request) -> Response:
        viewer = viewers.get(viewer_id, request.state.owner)
        if form not in MEDIA_TYPES:
            raise Refusal(404, f"no form {form[:20]!r}", next_step=f"take {', '.join(MEDIA_TYPES)}")
        text = written(viewer, form)
        return Response(text, media_type=f"{MEDIA_TYPES[form]}; charset=utf-8", headers=named(viewer, form))

    @app.get("/live/viewers/{viewer_id}/video.mp4")
    async def video(viewer_id: str, request: Request) -> Response:
        viewer = viewers.get(viewer_id, request.state.owner)
        if viewer.render is None or not viewer.render.done:
            raise Refusal(404, "no video was made yet", next_step="press the button for it, and wait")
        return FileResponse(viewer.render.path, media_type="video/mp4", headers=named(viewer, "captions.mp4"))


def _add_problems(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def refused(request: Request, refusal: Refusal) -> Response:
        return JSONResponse({"message": words(refusal), **refusal.detail}, refusal.status_code, refusal.headers)

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        log.warning("%s %s: %s", request.method, request.url.path, error)
        return JSONResponse({"message": "This cannot be read; the server's log says why."}, 422)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return PlainTextResponse("Something failed here; the server's log says what.", 500)
