"""Access to the server: the right host name, no foreign web page, the token, and no more than so many bytes."""

import hmac
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo.live.api_error import ApiError

JSON_BYTES = 64 * 2**10
OPEN_PATHS = ("/health",)


class AuthMiddleware:
    """ASGI middleware in front of all routes.

    Host: an IP address, localhost or one of `hosts`. A page that rebinds its own name to this machine's address
    (DNS rebinding) comes with that name and is refused. Origin: browsers state the page that asks; it must be one of
    this server's own. Token: as "Authorization: Bearer ..."; a WebSocket may send it as its first message instead,
    since browsers cannot set that header there (demo/server/websocket.py). max_frame_bytes: of a body sent to a path
    that ends in `frames_path`; others are small.
    """

    def __init__(
        self, app: ASGIApp, token: str | None, hosts: list[str], max_frame_bytes: int, frames_path: str = "/frames"
    ):
        self.app, self.token = app, token
        self.hosts = {"localhost", *(host.lower() for host in hosts)}
        self.max_frame_bytes, self.frames_path = max_frame_bytes, frames_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a error."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._check_host(headers)
            _check_origin(headers, scope)
            authorised = matches(self.token, bearer(headers))
            is_socket = scope["type"] == "websocket"
            if not authorised and (bearer(headers) or not is_socket) and scope["path"] not in OPEN_PATHS:
                raise unauthorised()
            most = self.max_frame_bytes if scope["path"].endswith(self.frames_path) else JSON_BYTES
            _check_length(headers, most)
        except ApiError as error:
            await error.response()(scope, receive, send)  # to a WebSocket, in place of the handshake
            return
        scope.setdefault("state", {})["authorised"] = authorised
        await self.app(scope, receive if is_socket else _capped(receive, most), send)

    def _check_host(self, headers: Headers) -> None:
        host = headers.get("host", "")
        name = _host_name(host)
        if name not in self.hosts and not _is_address(name):
            raise ApiError(
                403, f"host {host[:200]!r}", cause="this server does not go by that name",
                next_step="address it as localhost or by its IP address, or start it with --allow_host NAME",
            )  # fmt: skip


def matches(token: str | None, given: str | None) -> bool:
    """Whether `given` is the token, in a time that does not tell how much of it is right; True without a token."""
    return token is None or hmac.compare_digest(token.encode(), (given or "").encode("utf-8", "replace"))


def bearer(headers: Headers) -> str | None:
    """The token of an Authorization header."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def unauthorised() -> ApiError:
    """401 for a missing or wrong token."""
    return ApiError(
        401, "the token is missing or wrong", cause="this server was started with a token",
        next_step='send the header "Authorization: Bearer TOKEN"; never put the token in the URL',
    )  # fmt: skip


def _host_name(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str | None) -> bool:
    try:
        return bool(ip_address(name or ""))
    except ValueError:
        return False


def _check_origin(headers: Headers, scope: Scope) -> None:
    origin = headers.get("origin")
    foreign = origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower()
    # A link that a person follows is no request of the other page: it cannot read what comes.
    follows_link = headers.get("sec-fetch-mode") == "navigate" and scope.get("method") == "GET"
    if foreign or (headers.get("sec-fetch-site") in ("cross-site", "same-site") and not follows_link):
        raise ApiError(
            403, f"a request from the page {(origin or 'of another site')[:200]}",
            cause="pages of other origins may not use this server", next_step="call it from a program, or its own page",
        )  # fmt: skip


def _too_long(n_bytes: int | str, most: int) -> ApiError:
    return ApiError(413, f"a body of {n_bytes} bytes", limit=most, next_step="send less")


def _check_length(headers: Headers, most: int) -> None:
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 15 or int(length) > most:
        raise _too_long(length[:20], most)


def _capped(receive: Receive, most: int) -> Receive:
    """Counts a body that does not state its length."""
    n_bytes = 0

    async def counted() -> Message:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > most:
            raise _too_long(f"over {most}", most)
        return message

    return counted
