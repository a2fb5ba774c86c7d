"""The same application on Ray Serve: one engine per GPU, on one host or several, behind the same routes.

    serve run scripts/ray_serve.yaml

Each engine is a deployment with one replica, engine_0, engine_1, ...; a session's id begins with its engine ("e0-"),
so every ingress replica sends a request to where the session lives. A new session goes to the next engine that has
room. When an engine's replica dies, its open sessions are lost; those saved in a save_dir that all hosts share go on.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from itertools import count

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from demo.arguments import MemoryArguments
from demo.live.api_error import RETRY_S, ApiError, unknown_session
from demo.live.engine import StreamEngineArguments
from demo.server.app import create_app
from demo.server.options import ServerOptions
from demo.server.protocol import NewSession
from demo.server.sessions import open_sessions
from utils.errors import UserError
from utils.flag_values import check_values

log = logging.getLogger(__name__)

POLL_S = 2.0  # no request to an engine is longer: Ray lets them all end before it stops a replica
ONGOING = 1000  # requests that a replica serves at once
STOP_S = 60.0


class EngineReplica:
    """One engine in a process of its own."""

    async def __init__(self, name: str, model: StreamEngineArguments, memory: MemoryArguments, options: ServerOptions):
        self.sessions = await asyncio.to_thread(open_sessions, model, memory, options, name)
        await self.sessions.start()

    async def call(self, method: str, *arguments) -> dict:
        """Call a method of Sessions: its "value", or the error as "refused"; exceptions lose their type on the way."""
        try:
            return {"value": await getattr(self.sessions, method)(*arguments)}
        except ApiError as error:
            return {"refused": error.as_dict()}
        except UserError as error:
            return {"refused": {"status": 422, "error": str(error)}}

    async def __del__(self):
        await self.sessions.close()


class Replicas:
    """Sessions of several engines behind one interface. handles: of their deployments, by name."""

    def __init__(self, handles: dict):
        self._handles = handles
        self._turns = count()

    async def start(self) -> None:
        """Do nothing: the engines run already."""

    async def close(self) -> None:
        """Do nothing: each engine saves its own sessions."""

    async def create(self, new: NewSession) -> dict:
        """Open a session on the next engine that has room; a saved one on that of its id."""
        if new.resume:
            return await self._call(self._engine_of(new.resume), "create", new)
        names, first = list(self._handles), next(self._turns)
        for turn in range(len(names)):
            try:
                return await self._call(names[(first + turn) % len(names)], "create", new)
            except ApiError as error:
                if error.status_code != 503 or turn == len(names) - 1:
                    raise

    async def push(self, session_id: str, encoded: bytes, time_s: float | None) -> dict:
        """Forward Sessions.push to the session's engine; so do the others."""
        return await self._at(session_id, "push", encoded, time_s)

    async def ask(self, session_id: str, question: str) -> dict:
        """Ask a session."""
        return await self._at(session_id, "ask", question)

    async def end(self, session_id: str) -> dict:
        """End a session's frames."""
        return await self._at(session_id, "end")

    async def save(self, session_id: str) -> dict:
        """Save a session."""
        return await self._at(session_id, "save")

    async def delete(self, session_id: str, keep_saved: bool) -> dict:
        """Close a session."""
        return await self._at(session_id, "delete", keep_saved)

    async def state(self, session_id: str) -> dict:
        """State of a session."""
        return await self._at(session_id, "state")

    async def read(self, session_id: str, after: int) -> list[dict]:
        """The records that are there now."""
        return await self._at(session_id, "read", after)

    async def follow(self, session_id: str, after: int) -> AsyncIterator[dict | None]:
        """The records as they come."""
        while True:
            polled = await self._at(session_id, "poll", after, POLL_S)
            for record in polled["records"]:
                yield record
                after = record["seq"]
            if polled["ended"]:
                return
            if not polled["records"]:
                yield None

    async def measurements(self) -> dict[str, dict]:
        """Measurements of all engines."""
        parts = await asyncio.gather(*(self._call(name, "measurements") for name in self._handles))
        return {name: measured for part in parts for name, measured in part.items()}

    def _engine_of(self, session_id: str) -> str:
        name = session_id.partition("-")[0]
        if name not in self._handles:
            raise unknown_session(session_id)
        return name

    async def _at(self, session_id: str, method: str, *arguments):
        return await self._call(self._engine_of(session_id), method, session_id, *arguments)

    async def _call(self, name: str, method: str, *arguments):
        try:
            reply = await self._handles[name].call.remote(method, *arguments)
        except (RayError, RayServeException) as error:
            log.error("engine %s: %s", name, error)
            raise ApiError(
                503, f"engine {name} does not answer", cause="it has ended, or is starting again", retry_s=RETRY_S,
                next_step="open another session, or continue a saved one",
            ) from None  # fmt: skip
        if "refused" in reply:
            raise ApiError(**reply["refused"])
        return reply["value"]


class Ingress:
    """Ingress of the requests; stateless, so there can be several."""

    def __init__(self, handles: dict, options: ServerOptions):
        self.handles, self.options = handles, options

    def __serve_build_asgi_app__(self):
        return create_app(Replicas(self.handles), self.options)


def application(args: dict) -> serve.Application:
    """The application of scripts/ray_serve.yaml.

    args: n_engines; gpus_per_engine and cpus_per_engine; model, memory and server: the flags of demo/serve.py by name
    (StreamEngineArguments, MemoryArguments, ServerOptions). Raises UserError for values that cannot work.
    """
    args = dict(args)
    n_engines, n_gpus, n_cpus = args.pop("n_engines", 1), args.pop("gpus_per_engine", 0), args.pop("cpus_per_engine", 1)
    model = StreamEngineArguments(**args.pop("model", {}))
    memory = MemoryArguments(**args.pop("memory", {}))
    options = ServerOptions(**args.pop("server", {}))
    if args or n_engines < 1:
        raise UserError(
            f"n_engines {n_engines}, and unknown: {', '.join(args) or 'nothing'}; see scripts/ray_serve.yaml"
        )
    check_values(model)
    memory.options()
    options.check()
    engine = serve.deployment(
        EngineReplica, num_replicas=1, max_ongoing_requests=ONGOING, graceful_shutdown_timeout_s=STOP_S,
        ray_actor_options={"num_gpus": n_gpus, "num_cpus": n_cpus},
    )  # fmt: skip
    engines = {
        f"e{number}": engine.options(name=f"engine_{number}").bind(f"e{number}", model, memory, options)
        for number in range(n_engines)
    }
    ingress = serve.deployment(serve.ingress()(Ingress), name="ingress", max_ongoing_requests=ONGOING)
    return ingress.bind(engines, options)
