"""The server's application, listening on a socket of its own."""

import asyncio
import signal

import uvicorn

from demo.live.listening import GRACE_S, Listening
from demo.server.options import ServerOptions


def make_server(app, sessions, options: ServerOptions, host: str, port: int) -> Listening:
    """A server that is not started yet."""
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        ws_max_size=options.max_frame_bytes + 1024, ws_max_queue=4, ws_per_message_deflate=False,
        timeout_graceful_shutdown=GRACE_S,
    )  # fmt: skip
    return Listening(config, sessions, "listening on {address} (interface: /docs); Ctrl-C ends")


def listen(app, sessions, options: ServerOptions, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT (KeyboardInterrupt afterwards)."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when all is done: a clean end is status 0
    asyncio.run(make_server(app, sessions, options, host, port).serve())
