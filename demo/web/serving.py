"""Server process of the page: a socket, the public address where it is wanted, and an order in which to stop."""

import secrets
import socket
from urllib.parse import urlsplit

import uvicorn

from demo.live.graceful_server import GRACE_S, GracefulServer, stop_cleanly
from demo.live.limits import FRAME_BYTES
from demo.web.options import PageArguments
from demo.web.routes import create_page_app
from demo.web.tab_registry import TabRegistry
from utils.errors import UserError


def make_page_server(registry: TabRegistry, page: PageArguments, hosts: tuple[str, ...] = ()) -> GracefulServer:
    """A server that is not started yet. hosts: names of it besides those of the flags."""
    app = create_page_app(registry, page.credentials(), (page.host, *page.allow_host, *hosts))
    config = uvicorn.Config(
        app, host=page.host, port=page.port, log_level="warning", access_log=False, server_header=False,
        proxy_headers=False, ws_max_size=FRAME_BYTES + 1024, ws_max_queue=8, ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    return GracefulServer(config, registry, "open {address} in a browser; Ctrl-C ends")


async def listen(registry: TabRegistry, page: PageArguments, listening: socket.socket) -> None:
    """Serve until SIGTERM, SIGHUP or SIGINT (KeyboardInterrupt afterwards)."""
    stop_cleanly()
    with listening:
        address = open_tunnel(listening.getsockname()[1]) if page.share else None
        server = make_page_server(registry, page, (urlsplit(address).hostname,) if address else ())
        await server.serve(sockets=[listening])


def open_tunnel(port: int) -> str:
    """Gradio's tunnel to a port of this machine, for as long as the process lives: its public address."""
    from gradio import networking

    try:
        address = networking.setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)
    except Exception as error:  # no network, or Gradio's server is down: whatever it is, nothing is shared
        raise UserError(f"--share: the tunnel could not be opened ({error}); leave the flag out") from error
    print(f"public address, open to everybody who knows it: {address}", flush=True)
    return address
