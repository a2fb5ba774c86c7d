"""Server process of an application: a socket, and an order in which to stop."""

import socket

import uvicorn

GRACE_S = 5  # for connections that do not end by themselves


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
