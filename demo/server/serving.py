"""Server process of the API: uvicorn's settings, and how it ends."""

import asyncio
import socket

import uvicorn

from demo.live.graceful_server import GRACE_S, GracefulServer, stop_cleanly
from demo.server.options import ServerOptions


def make_server(app, sessions, options: ServerOptions, host: str, port: int) -> GracefulServer:
    """A server that is not started yet."""
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        ws_max_size=options.max_frame_bytes + 1024, ws_max_queue=4, ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    return GracefulServer(config, sessions, "listening on {address} (interface: /docs); Ctrl-C ends")


def listen(app, sessions, options: ServerOptions, listening: socket.socket) -> None:
    """Serve until SIGTERM, SIGHUP or SIGINT (KeyboardInterrupt afterwards)."""
    stop_cleanly()
    with listening:
        host, port = listening.getsockname()[:2]
        asyncio.run(make_server(app, sessions, options, host, port).serve(sockets=[listening]))
