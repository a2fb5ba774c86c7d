"""Authentication of the page's browsers, which of Gradio's routes it has, and what the browser is told to forbid."""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "livecc_browser"
REALM = 'Basic realm="live commentary", charset="UTF-8"'
# What Gradio's page fetches of Gradio. Its other routes (uploads, files, proxies, calls, the queue) are closed: the
# page works without them.
GRADIO_PATHS = re.compile(
    r"/|/(theme\.css|config|manifest\.json|favicon\.ico|robots\.txt)|/(assets|static)/[\w./@~-]+"
    r"|/gradio_api/(info|app_id|startup-events|heartbeat/\w+|dev/reload)"
)
GUESS_S = 0.5  # that a wrong password takes
OUR_PATHS = "/live/"
# Gradio's page has inline scripts and styles, and makes functions of its handlers' source.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; worker-src 'self' blob:; base-uri 'self'; form-action 'none'; object-src 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=(), payment=(), usb=()",
}  # fmt: skip


class Browsers:
    """Tells browsers apart by a cookie that only this process can make."""

    def __init__(self):
        self._key = secrets.token_bytes(32)

    def new(self) -> str:
        """A cookie's value."""
        name = secrets.token_hex(16)
        return f"{name}.{self._sign(name)}"

    def owner(self, headers: Headers) -> str | None:
        """The browser that sends these headers; None where its cookie is missing or not ours."""
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        name, _, signature = (cookie.value if cookie else "").partition(".")
        good = hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(name).encode())
        return name if cookie and good else None

    def _sign(self, name: str) -> str:
        return hmac.new(self._key, name.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


class PageAuthMiddleware:
    """ASGI middleware: asks for the password, gives browsers their cookie, closes what the page does not use.

    credentials: USER:PASSWORD or None. A browser that has once given it is known by its cookie from then on, since not
    all browsers send a password with WebSockets.
    """

    def __init__(self, app: ASGIApp, browsers: Browsers, credentials: str | None):
        self.app, self.browsers = app, browsers
        self._expected = credentials and base64.b64encode(credentials.encode()).decode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 401, 403 or 404."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers, path = Headers(scope=scope), scope["path"]
        owner = self.browsers.owner(headers)
        send = _guarded(send)
        if owner is None and not self._knows_password(headers):
            if "authorization" in headers:
                await asyncio.sleep(GUESS_S)
            challenge = PlainTextResponse("This page asks for a name and a password.", 401, {"WWW-Authenticate": REALM})
            await challenge(scope, receive, send)
            return
        is_ours = path.startswith(OUR_PATHS)
        if is_ours and owner is None:
            await PlainTextResponse("Load the page first.", 403)(scope, receive, send)
            return
        if not is_ours and not (scope["type"] == "http" and _is_open(scope["method"], path)):
            await PlainTextResponse("There is nothing here.", 404)(scope, receive, send)
            return
        if owner is None and path == "/":
            send = _with_cookie(send, self.browsers.new(), "; Secure" if scope.get("scheme") == "https" else "")
        scope.setdefault("state", {})["owner"] = owner
        await self.app(scope, receive, send)

    def _knows_password(self, headers: Headers) -> bool:
        if self._expected is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        is_same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._expected.encode())
        return scheme.lower() == "basic" and is_same


def _is_open(method: str, path: str) -> bool:
    return method in ("GET", "HEAD") and ".." not in path and GRADIO_PATHS.fullmatch(path) is not None


def _guarded(send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
        await send(message)

    return guarded


def _with_cookie(send: Send, value: str, more: str) -> Send:
    async def with_cookie(message: Message) -> None:
        if message["type"] == "http.response.start":
            cookie = f"{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict{more}"
            MutableHeaders(scope=message).append("Set-Cookie", cookie)
        await send(message)

    return with_cookie
