"""Server process of an application: a socket, and an order in which to stop."""

import signal
import socket

import uvicorn

from utils.errors import UserError

GRACE_S = 5  # for connections that do not end by themselves


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UserError where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"--host {host} --port {port}: cannot listen there ({why}); another program may have "
            "the port: give another one, or 0 for a free one"
        ) from error


def stop_cleanly() -> None:
    """Take a closed terminal (SIGHUP; not under nohup) as SIGTERM, and let SIGTERM end with status 0.

    uvicorn raises SIGTERM again when all is done.
    """
    signal.signal(signal.SIGTERM, lambda *_: None)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))


class GracefulServer(uvicorn.Server):
    """Uvicorn server that prints its address, and ends what it serves before its connections.

    So readers get their last records.

    served: has a coroutine close(). greeting: what is printed when it has started, with {address}.
    """

    def __init__(self, config: uvicorn.Config, served, greeting: str):
        super().__init__(config)
        self._served, self._greeting = served, greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and print the address."""
        await super().startup(sockets)
        if self.started:
            print(self._greeting.format(address=self.address), flush=True)

    @property
    def address(self) -> str:
        """URL at which it listens, once it has started."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish or save what is served, which ends the connections' streams, then close."""
        await self._served.close()
        await super().shutdown(sockets)
