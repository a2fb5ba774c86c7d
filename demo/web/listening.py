"""The process around the page: a socket, the public address where it is wanted, and an order in which to stop."""

import secrets
import socket
from urllib.parse import urlsplit

import uvicorn

from demo.web.options import PageArguments
from demo.web.routes import create_app
from demo.web.run import FRAME_BYTES
from demo.web.viewers import Viewers
from utils.errors import UserError

GRACE_S = 5  # for connections that do not end by themselves


class Listening(uvicorn.Server):
    """Uvicorn that says where the page is, and ends the commentaries before the connections."""

    def __init__(self, config: uvicorn.Config, viewers: Viewers):
        super().__init__(config)
        self._viewers = viewers

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say where."""
        await super().startup(sockets)
        if self.started:
            print(f"open {self.address} in a browser; Ctrl-C ends", flush=True)

    @property
    def address(self) -> str:
        """Where it listens, once it has started."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the commentaries, which ends the pages' connections, then close."""
        await self._viewers.close()
        await super().shutdown(sockets)


def make_server(viewers: Viewers, page: PageArguments, hosts: tuple[str, ...] = ()) -> Listening:
    """A server that is not started yet. hosts: names of it besides those of the flags."""
    app = create_app(viewers, page.credentials(), (page.host, *page.allow_host, *hosts))
    config = uvicorn.Config(
        app, host=page.host, port=page.port, log_level="warning", access_log=False, server_header=False,
        proxy_headers=False, ws_max_size=FRAME_BYTES + 1024, ws_max_queue=8, ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    return Listening(config, viewers)


async def listen(viewers: Viewers, page: PageArguments) -> None:
    """Serve until SIGTERM or SIGINT (KeyboardInterrupt afterwards). Raises UserError where the port is not free."""
    try:
        listening = bind(page.host, page.port)
    except UserError:
        await viewers.close()
        raise
    with listening:
        address = open_tunnel(listening.getsockname()[1]) if page.share else None
        server = make_server(viewers, page, (urlsplit(address).hostname,) if address else ())
        await server.serve(sockets=[listening])


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UserError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror or error}); another program may have "
            "the port: give another one, or 0 for a free one"
        ) from error


def open_tunnel(port: int) -> str:
    """Gradio's tunnel to a port of this machine, for as long as the process lives: its public address."""
    from gradio import networking

    try:
        address = networking.setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)
    except Exception as error:  # no network, or Gradio's server is down: whatever it is, nothing is shared
        raise UserError(f"--share: the tunnel could not be opened ({error}); leave the flag out") from error
    print(f"public address, open to everybody who knows it: {address}", flush=True)
    return address
