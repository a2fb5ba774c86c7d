"""Sessions of one engine: opened, found by id, closed when nobody uses them, saved or finished at the end."""

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from data.sources.catalogue import open_source
from data.sources.source import Source
from data.sources.spec import SourceSpec
from demo.arguments import LIVE_MAX_PIXELS, MemoryArguments
from demo.live.allowed_sources import AllowedSources
from demo.live.api_error import RETRY_S, ApiError, unknown_session
from demo.live.bucket import TokenBucket
from demo.live.engine import MEASURED_HW, StreamEngineArguments, started_engine
from demo.live.events import EventLog
from demo.live.frames import FrameReader
from demo.live.session import Mark, Session
from demo.server.metrics import Histogram
from demo.server.options import ServerOptions
from demo.server.protocol import SPEECH, NewSession
from demo.server.saved import SavedSessions, is_disk_full
from models.streaming.engine import Engine, EngineFull
from models.streaming.options import RetentionOptions, StreamOptions
from models.streaming.session import Clock
from utils.errors import UserError

log = logging.getLogger(__name__)

SWEEP_S = 1.0
CLOSE_S = 10.0  # that a step in progress may take when a session is closed
FINISH_S = 20.0  # that frames which wait may take at the end, where nothing is saved


class Sessions:
    """Sessions by id. All methods belong to one event loop; what can wait for the engine does so in a thread.

    name: where there are several engines, the beginning of the ids and a label of the metrics.
    """

    def __init__(
        self, engine: Engine, options: ServerOptions, retention: RetentionOptions | None = None, name: str = ""
    ):
        self.engine, self.options, self.name = engine, options, name
        self.retention = retention or RetentionOptions("window")
        limits = engine.checkpoint.limits
        most = max(limits.total_pixels, limits.min_pixels)
        self.limits = replace(limits, max_pixels=min(LIVE_MAX_PIXELS, most))
        self.allowed, self.saved = AllowedSources(options.allow_source), SavedSessions(options.save_dir)
        self.sessions: dict[str, Session] = {}
        self.lags, self.gone = Histogram(), Counter()
        self.n_unsaved = 0  # sessions that could not be saved when the server stopped
        self._opening: set[str] = set()
        # A save waits for the step in progress; it must not take the threads in which frames are decoded.
        self._savers = ThreadPoolExecutor(2, thread_name_prefix="saving")
        self._sweeping: asyncio.Task | None = None
        self._closing: asyncio.Task | None = None

    async def start(self) -> None:
        """Begin to close what nobody uses."""
        self._sweeping = asyncio.create_task(self._sweep_for_ever())

    async def create(self, new: NewSession) -> dict:
        """Open a session, or continue a saved one; returns its state. Raises ApiError."""
        session_id = new.resume or f"{self.name}-{secrets.token_hex(16)}".removeprefix("-")
        known = self.sessions.get(session_id)
        if session_id in self._opening or (known and not known.log.ended):
            raise ApiError(409, f"session {session_id} is open already", next_step="use it, or close it first")
        self._opening.add(session_id)
        try:
            session = await self._open(session_id, new)
        except EngineFull as full:
            raise ApiError(503, str(full), next_step="try again, or another server", retry_s=RETRY_S) from None
        finally:
            self._opening.discard(session_id)
        return session.state()

    async def push(self, session_id: str, encoded: bytes, time_s: float | None) -> dict:
        """Give a session a JPEG; returns the fields of FrameTaken."""
        self._require_serving()
        return await self._get(session_id).push(encoded, time_s)

    async def ask(self, session_id: str, question: str) -> dict:
        """Ask a session; the answer comes as records with the id that is returned."""
        self._require_serving()
        return {"id": await self._get(session_id).ask(question)}

    async def end(self, session_id: str) -> dict:
        """No more frames: what has come is commented on, then the session ends. Returns its state."""
        session = self._get(session_id)
        await _end_frames(session)
        return session.state()

    async def save(self, session_id: str) -> dict:
        """Save a session, which goes on; returns the fields of Saved."""
        self._require_serving()
        session = self._get(session_id)
        session.require_open()
        if len(self.saved) >= self.options.max_saved and not await asyncio.to_thread(self.saved.has, session_id):
            raise ApiError(
                503, f"{len(self.saved)} sessions are saved", limit=self.options.max_saved, retry_s=60,
                next_step="delete one with DELETE /sessions/ID",
            )  # fmt: skip
        if session.saving.locked():
            raise ApiError(409, f"session {session_id} is being saved", next_step="wait for that", retry_s=1)
        async with session.saving:
            session.touch()
            path = self.saved.new_file(session_id)
            loop = asyncio.get_running_loop()
            try:
                return await loop.run_in_executor(
                    self._savers, lambda: self.saved.keep(session, session.stream.save(path))
                )
            except (UserError, OSError) as error:
                raise self._unsaved(session, error) from error

    async def delete(self, session_id: str, keep_saved: bool) -> dict:
        """Close a session and forget it; what is saved of it too, unless keep_saved."""
        session = self.sessions.get(session_id)
        if session is not None:
            await asyncio.to_thread(session.stream.close)
            if not await session.log.until_ended(CLOSE_S):
                log.warning("session %s did not end within %g s", session_id, CLOSE_S)
            self._forget(session)
        removed = not keep_saved and await asyncio.to_thread(self.saved.remove, session_id)
        if session is None and not removed:
            raise unknown_session(session_id)
        return {"id": session_id, "closed": session is not None, "removed_saved": removed}

    async def state(self, session_id: str) -> dict:
        """State of a session."""
        return self._get(session_id).state()

    async def read(self, session_id: str, after: int) -> list[dict]:
        """The records behind number `after` that are there now."""
        session = self._get(session_id)
        session.touch()
        return session.log.after(after)

    async def follow(self, session_id: str, after: int) -> AsyncIterator[dict | None]:
        """The records behind number `after` as they come, to the end; None now and then, to show that we live."""
        async with contextlib.aclosing(self._get(session_id).log.follow(after)) as records:
            async for record in records:
                yield record

    async def poll(self, session_id: str, after: int, wait_s: float) -> dict:
        """The records behind `after`, once there is one or wait_s have passed; "ended": whether these are the last."""
        session = self._get(session_id)
        session.touch()
        async with contextlib.aclosing(session.log.follow(after, wait_s)) as records:
            await anext(records, None)
        ended, records = session.log.ended, session.log.after(after, limit=256)
        return {"records": records, "ended": ended and (not records or records[-1]["seq"] == session.log.last_seq)}

    async def measurements(self) -> dict[str, dict]:
        """Measurements for demo/server/metrics.py, by the engine's name."""
        stats = await asyncio.to_thread(self.engine.stats)
        sessions = list(self.sessions.values())
        records = [session.stream.record() for session in sessions if not session.log.ended]
        frames = Counter(taken=0, thinned=0, refused=0)
        for session in sessions:
            frames.update(session.frames)
        frames.update({name: self.gone[name] for name in ("taken", "thinned", "refused")})
        more = {
            "cache_tokens": sum(record["n_context"] for record in records),
            "waiting_frames": sum(record["n_waiting"] for record in records),
            "forgotten": self.gone["forgotten"] + sum(session.log.n_forgotten for session in sessions),
            "frames": dict(frames), "lags": self.lags.as_dict(),
        }  # fmt: skip
        return {self.name or "0": {**stats, **more}}

    async def close(self) -> None:
        """Save every session where there is a folder for that, else finish them; then stop the engine."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    # opening

    async def _open(self, session_id: str, new: NewSession) -> Session:
        self._require_serving()
        spec = None if new.source is None else await asyncio.to_thread(self.allowed.check, new.source)
        entry, path = {}, None
        if new.resume:
            entry, path = await asyncio.to_thread(self.saved.read, new.resume)
        realtime = new.realtime if "realtime" in new.model_fields_set else entry.get("realtime", new.realtime)
        begun = Mark(entry.get("n_steps", 0), entry.get("next_s", 0.0), entry.get("last_seq", 0))
        shown = (
            spec.name if spec and spec.kind == "url" else new.source
        )  # without a password; paths as clients write them
        source = None if spec is None else await asyncio.to_thread(self._open_source, spec, new, begun.end_s)
        session = Session(
            session_id, entry.get("query", new.query), realtime or bool(source and source.is_live),
            EventLog(
                asyncio.get_running_loop(), last_seq=begun.seq, records=entry.get("records", ()),
                forgotten=entry.get("forgotten"),
            ),
            FrameReader(self.limits, self.options.max_frame_bytes, self.options.max_frame_pixels),
            TokenBucket(self.options.max_frames_per_second),
            begun, shown, source, (spec.address, shown) if spec else None,
        )  # fmt: skip
        options = StreamOptions(**{name: getattr(new, name) for name in SPEECH}, retention=self.retention)
        listener = self._listener(session)
        try:
            session.stream = await asyncio.to_thread(
                self.engine.open, listener, options, realtime=session.realtime, saved=path
            )
        except UserError as error:
            if path is None or isinstance(error, EngineFull):
                raise
            raise ApiError(409, str(error).replace(str(path), f"saved session {session_id}")) from None
        if session_id in self.sessions:  # ended, and not yet forgotten
            self._forget(self.sessions[session_id])
        self.sessions[session_id] = session
        policy = session.stream.session.options.retention.cache_policy
        session.log.append({
            "type": "header", "id": session_id, "model": Path(self.engine.checkpoint.name).name, "query": session.query,
            "source": shown, "realtime": session.realtime, "cache_policy": policy,
            "next_s": begun.end_s,
        })  # fmt: skip
        if source is not None:
            paced = session.realtime and not source.is_live
            self.engine.watch(session.stream, source, Clock(time.monotonic() - begun.end_s) if paced else None)
        return session

    def _open_source(self, spec: SourceSpec, new: NewSession, start_s: float) -> Source:
        start_s = start_s if spec.kind in ("file", "images") else 0.0
        return open_source(spec, limits=self.limits, start_s=start_s, images_fps=new.images_fps)

    def _listener(self, session: Session):
        def hear(record: dict) -> None:
            if record["type"] == "step":
                self.lags.add(record["lag_s"])
            session.hear(record)

        return hear

    def _get(self, session_id: str) -> Session:
        if session_id not in self.sessions:
            raise unknown_session(session_id)
        return self.sessions[session_id]

    def _require_serving(self) -> None:
        if self._closing is not None:
            raise ApiError(503, "the server is stopping", next_step="use another one, or wait", retry_s=RETRY_S)

    def _unsaved(self, session: Session, error: Exception) -> ApiError:
        """What a client is told of a save that failed: nothing of the server's paths, which its log has."""
        if session.stream.closing or session.stream.closed:
            return ApiError(409, f"session {session.id} ended before it was saved", next_step="open another one")
        log.error("session %s was not saved: %s", session.id, error)
        full = is_disk_full(error)
        return ApiError(
            507 if full else 500, f"session {session.id} was not saved, and goes on",
            cause="the server's disk is full" if full else "a fault of the server; its log has it",
            next_step="tell its operator", retry_s=60 if full else None,
        )  # fmt: skip

    # ending

    def _forget(self, session: Session) -> None:
        self.sessions.pop(session.id, None)
        self.gone.update({**session.frames, "forgotten": session.log.n_forgotten})

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(min(SWEEP_S, self.options.session_timeout_s / 4))
            try:
                await self._sweep()
            except Exception:  # one session's fault; the others are swept next time
                log.exception("sweeping failed")

    async def _sweep(self) -> None:
        """Pass on what sources have to say; close sessions that nobody uses; forget ended ones."""
        timeout_s = self.options.session_timeout_s
        for session in list(self.sessions.values()):
            while session.source is not None and not session.log.ended and not session.source.events.empty():
                session.log.append({"type": "source", "message": session.source.events.get()})
            if session.idle_s() <= timeout_s:
                continue
            if session.log.ended:
                self._forget(session)
            elif not session.stream.closing:
                message = f"no client has sent or read anything for {timeout_s:g} s"
                session.log.append({"type": "error", "message": message})
                await asyncio.to_thread(session.stream.close)
        ended = [session for session in self.sessions.values() if session.log.ended]
        for session in ended[: max(0, len(ended) - self.options.max_sessions)]:
            self._forget(session)

    async def _close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
        live = [session for session in self.sessions.values() if not session.log.ended]
        if self.saved.folder is not None:
            await asyncio.to_thread(self._close_engine, live)
        else:
            await self._finish(live)
            await asyncio.to_thread(self.engine.close)
        for session in live:
            if session.source is not None:
                session.source.close()
        self._savers.shutdown(wait=False)

    async def _finish(self, live: list[Session]) -> None:
        """Let every session comment on the frames that it has; a source's next ones are not waited for."""
        for session in live:
            await _end_frames(session)
        await asyncio.gather(*(session.log.until_ended(FINISH_S) for session in live))

    def _close_engine(self, live: list[Session]) -> None:
        folder = self.saved.folder / f".closing-{os.getpid()}"
        folder.mkdir(exist_ok=True)
        written = {int(path.stem.rpartition("_")[2]): path for path in self.engine.close(save_to=folder)}
        n_saved = 0
        for session in live:
            try:
                if session.stream.number in written:
                    self.saved.keep(session, written[session.stream.number])
                    n_saved += 1
            except (OSError, ApiError) as error:
                log.error("session %s was not saved: %s", session.id, error)
        for orphan in folder.glob("stream_*"):  # opened in the very last moment; its client was refused
            orphan.unlink()
        folder.rmdir()
        self.n_unsaved = len(live) - n_saved
        log.warning("saved %d of %d sessions in %s", n_saved, len(live), self.saved.folder)


async def _end_frames(session: Session) -> None:
    """No more frames; a source is ended, and its thread then ends the stream."""
    if session.source is not None:
        session.source.close()
    else:
        await asyncio.to_thread(session.stream.end)


def open_sessions(
    model: StreamEngineArguments, memory: MemoryArguments, options: ServerOptions, name: str = ""
) -> Sessions:
    """Load the model and start an engine. name: where there are several, this one's."""
    with started_engine(model, options.max_sessions) as engine:
        sessions = Sessions(engine, options, memory.options(), name)
        engine.measure(sessions.limits.size_hw(*MEASURED_HW, sessions.limits.max_frames))
    return sessions
