"""The routes: HTTP and WebSocket in front of Sessions."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import FastAPI, Header, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.sse import EventSourceResponse, format_sse_event
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from demo.live.access import AuthMiddleware
from demo.live.api_error import ApiError
from demo.server.metrics import prometheus_text
from demo.server.options import ServerOptions
from demo.server.protocol import AcceptedQuestion, FrameTaken, NewSession, Problem, Question, Saved, SessionState
from demo.server.websocket import converse
from utils.errors import UserError

log = logging.getLogger(__name__)

DESCRIPTION = """\
Live commentary on video. Open a session, push JPEG frames (2 a second are looked at) or name a source that the server
allows, and read what is said as server-sent events, JSON lines or over a WebSocket (`/sessions/{id}/stream`).
Records have a "type" (header, step, piece, answer, source, lost, error, end) and a number "seq" to go on from."""
PROBLEMS = {status: {"model": Problem} for status in (401, 403, 404, 409, 413, 422, 429, 503)}
JPEG_BODY = {
    "requestBody": {"required": True, "content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
}
After = Annotated[int, Query(ge=0, description="number of the last record that is known already")]


def create_app(sessions, options: ServerOptions, hosts: tuple[str, ...] = ()) -> FastAPI:
    """The application on Sessions, which it starts and closes. hosts: names of its own, besides options.allow_host."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await sessions.start()
        yield
        await sessions.close()

    app = FastAPI(
        title="LiveCC", description=DESCRIPTION, lifespan=lifespan, redoc_url=None, responses=PROBLEMS,
    )  # fmt: skip
    token = options.secret()
    app.add_middleware(
        AuthMiddleware, token=token, hosts=[*hosts, *options.allow_host], max_frame_bytes=options.max_frame_bytes
    )
    _add_problems(app)
    _add_sessions(app, sessions)
    _add_records(app, sessions, token)
    _add_operation(app, sessions)
    return app


def _add_sessions(app: FastAPI, sessions) -> None:
    @app.post("/sessions", status_code=201)
    async def open_session(new: NewSession) -> SessionState:
        """Open a session, or continue a saved one. 503 with Retry-After where the model has no time for another."""
        return await sessions.create(new)

    @app.get("/sessions/{session_id}")
    async def session_state(session_id: str) -> SessionState:
        """State of a session."""
        return await sessions.state(session_id)

    @app.delete("/sessions/{session_id}")
    async def close_session(session_id: str, keep_saved: bool = False) -> dict:
        """Close a session and forget it; what is saved of it too, unless keep_saved."""
        return await sessions.delete(session_id, keep_saved)

    @app.post("/sessions/{session_id}/frames", openapi_extra=JPEG_BODY)
    async def push_frame(session_id: str, request: Request, time_s: float | None = None) -> FrameTaken:
        """Give the next frame. It stands for the grid time (0, 0.5, 1 ... s) nearest to time_s, or to its arrival."""
        return await sessions.push(session_id, await request.body(), time_s)

    @app.post("/sessions/{session_id}/end")
    async def end_frames(session_id: str) -> SessionState:
        """No more frames: what has come is commented on, then the session ends."""
        return await sessions.end(session_id)

    @app.post("/sessions/{session_id}/questions", status_code=202)
    async def ask(session_id: str, question: Question) -> AcceptedQuestion:
        """Ask about what was seen so far; the answer comes among the records."""
        return await sessions.ask(session_id, question.question)

    @app.post("/sessions/{session_id}/save")
    async def save(session_id: str) -> Saved:
        """Save the session, which goes on; POST /sessions {"resume": id} continues from here after a restart."""
        return await sessions.save(session_id)


def _add_records(app: FastAPI, sessions, token: str | None) -> None:
    @app.get("/sessions/{session_id}/commentary")
    async def commentary(session_id: str, after: After = 0) -> Response:
        """The records that are there now, as JSON lines."""
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in await sessions.read(session_id, after)]
        return Response("".join(lines), media_type="application/x-ndjson", headers={"Cache-Control": "no-store"})

    @app.get("/sessions/{session_id}/events")
    async def events(
        session_id: str, after: After = 0, last_event_id: Annotated[str | None, Header()] = None
    ) -> Response:
        """The records as they come, as server-sent events; Last-Event-ID goes on behind that record."""
        after = _event_number(last_event_id) if last_event_id else after
        state = await sessions.state(session_id)
        if after > state["last_seq"]:
            raise ApiError(
                422, f"records after {after}", limit=state["last_seq"], cause="the number is another session's, or the "
                "session was continued from an earlier state", next_step="go on from last_seq, or from 0",
            )  # fmt: skip
        if state["state"] == "ended" and after == state["last_seq"]:
            return Response(status_code=204)  # tells an EventSource not to come again
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        records = sessions.follow(session_id, after)
        return EventSourceResponse(_as_events(records), headers=headers)

    @app.websocket("/sessions/{session_id}/stream")
    async def stream(socket: WebSocket, session_id: str, after: int = 0) -> None:
        await socket.accept()
        await converse(socket, sessions, session_id, max(0, after), token)


def _add_operation(app: FastAPI, sessions) -> None:
    @app.get("/health")
    async def health() -> dict:
        """Answer that the server runs; needs no token."""
        return {"status": "ok"}

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Measurements for Prometheus."""
        return Response(prometheus_text(await sessions.measurements()), media_type=CONTENT_TYPE_LATEST)


def _add_problems(app: FastAPI) -> None:
    """Every answer that is none is a Problem, and none shows the inside of the server."""

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        told = error if isinstance(error, ApiError) else ApiError(error.status_code, str(error.detail))
        return told.response()

    @app.exception_handler(UserError)
    async def mistaken(_: Request, error: UserError) -> JSONResponse:
        return ApiError(422, str(error)).response()

    @app.exception_handler(ClientDisconnect)
    async def broken_off(request: Request, _: ClientDisconnect) -> Response:
        log.warning("a client broke off: %s %s", request.method, request.url.path)
        return Response(status_code=400)  # which nobody reads

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = f"{where}: {json.dumps(first.get('input'), default=str)[:200]}: {first['msg']}"
        limit = {name: value for name, value in (first.get("ctx") or {}).items() if name != "error"}
        return ApiError(
            422, said, limit=json.dumps(limit, default=str) if limit else None, next_step="the page /docs has the form"
        ).response()

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return ApiError(
            500, "internal error", cause="a fault of the server; its log has it", next_step="tell its operator"
        ).response()


async def _as_events(records: AsyncIterator[dict | None]) -> AsyncIterator[bytes]:
    yield format_sse_event(retry=2000)
    try:
        async for record in records:
            if record is None:
                yield format_sse_event(comment="still here")
            else:
                data = json.dumps(record, ensure_ascii=False)
                yield format_sse_event(id=str(record["seq"]), event=record["type"], data_str=data)
    except ApiError as error:  # its engine is gone
        yield format_sse_event(event="refused", data_str=json.dumps(error.detail, ensure_ascii=False))


def _event_number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise ApiError(422, f"Last-Event-ID {text[:40]!r}", next_step="send the id of an event, a number")
    return int(text)
