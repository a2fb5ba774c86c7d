"""WebSocket protocol of a session: JPEGs and requests come in, records go out.

From the client: binary messages, each one JPEG; text messages, each one JSON object:

    {"type": "frame", "time_s": 1.5}      the time of the next JPEG; without it, its arrival
    {"type": "ask", "question": "..."}    answered with {"type": "asked", "id": n}, then by records of that id
    {"type": "end"}                       no more frames: finish, then the session ends
    {"type": "auth", "token": "..."}      first of all, where the server has a token and no header could be set

From the server: the session's records, each with its "seq"; {"type": "refused", "error": ...} for a message that is
not served, after which the session goes on. A client that went away comes back with ?after=SEQ.
"""

import asyncio
import contextlib
import json

from pydantic import ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect

from demo.live.access import matches, unauthorised
from demo.live.api_error import ApiError
from demo.live.directions import until_one_ends
from demo.live.limits import LONGEST_S, POLICY_VIOLATION, QUESTION_CHARACTERS
from demo.server.protocol import Question
from utils.errors import UserError

AUTH_S = 10.0
ENDED = 1000


async def converse(socket: WebSocket, sessions, session_id: str, after: int, token: str | None) -> None:
    """Serve an accepted WebSocket until its session ends or its client goes away."""
    session = WebSocketSession(socket, sessions, session_id)
    with contextlib.suppress(WebSocketDisconnect):
        try:
            await _authorise(socket, token)
            await sessions.read(session_id, after)
        except ApiError as error:
            await session.refuse(error)
            await socket.close(POLICY_VIOLATION)
            return
        await until_one_ends(session.tell(after), session.listen())
        await socket.close(ENDED)


class WebSocketSession:
    """Session of one WebSocket: records go out, frames and requests come in."""

    def __init__(self, socket: WebSocket, sessions, session_id: str):
        self.socket, self.sessions, self.session_id = socket, sessions, session_id
        self._sending = asyncio.Lock()
        self._time_s: float | None = None  # of the next JPEG

    async def tell(self, after: int) -> None:
        """Send the session's records, to the last."""
        try:
            async for record in self.sessions.follow(self.session_id, after):
                if record is not None:  # WebSockets have their own pings
                    await self._send(record)
        except ApiError as error:  # its engine is gone
            await self.refuse(error)

    async def listen(self) -> None:
        """Take what the client sends until it goes away."""
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
            try:
                if message.get("bytes") is not None:
                    time_s, self._time_s = self._time_s, None
                    await self.sessions.push(self.session_id, message["bytes"], time_s)
                else:
                    await self._obey(_parse(message["text"]))
            except ApiError as error:
                await self.refuse(error)
            except UserError as error:
                await self.refuse(ApiError(422, str(error)))

    async def refuse(self, error: ApiError) -> None:
        """Send why a message is not served."""
        await self._send({"type": "refused", "status": error.status_code, **error.detail})

    async def _obey(self, request: dict) -> None:
        kind = request.get("type")
        if kind == "frame" and _is_time(request.get("time_s")):
            self._time_s = float(request["time_s"])
        elif kind == "ask" and _is_question(request.get("question")):
            await self._send({"type": "asked", **await self.sessions.ask(self.session_id, request["question"])})
        elif kind == "end":
            await self.sessions.end(self.session_id)
        elif kind != "auth":
            raise ApiError(
                422, f"message {json.dumps(request)[:200]}", limit=f"{QUESTION_CHARACTERS} characters",
                cause="no such type, or a field is missing, of the wrong type or too long",
                next_step="send frame with time_s, ask with question, or end",
            )  # fmt: skip

    async def _send(self, record: dict) -> None:
        async with self._sending:
            await self.socket.send_text(json.dumps(record, ensure_ascii=False))


async def _authorise(socket: WebSocket, token: str | None) -> None:
    if token is None or socket.state.authorised:
        return
    with contextlib.suppress(TimeoutError):
        message = await asyncio.wait_for(socket.receive(), AUTH_S)
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        given = _parse(message.get("text") or "{}")
        if given.get("type") == "auth" and isinstance(given.get("token"), str) and matches(token, given["token"]):
            return
    raise unauthorised()


def _parse(text: str) -> dict:
    try:
        request = json.loads(text)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise ApiError(422, f"message {text[:200]!r}", cause="it is no JSON object", next_step='send {"type": ...}')
    return request


def _is_time(time_s) -> bool:
    return isinstance(time_s, int | float) and abs(time_s) <= LONGEST_S


def _is_question(text) -> bool:
    try:
        return bool(Question(question=text))
    except ValidationError:
        return False
