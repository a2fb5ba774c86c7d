"""A server in this process and its clients: what the tests of demo/serve.py ask, with the shipped matches as JPEGs."""

import contextlib
import io
import json
import threading

import httpx2 as httpx
import numpy as np
import torch
from PIL import Image

from data.video.frame_plan import VideoLimits
from data.video.live import live_frames
from demo.arguments import NANO_MATCHES
from demo.live.frames import FrameReader
from demo.server.app import create_app
from demo.server.options import ServerOptions
from demo.server.serving import make_server
from demo.server.sessions import Sessions
from models.streaming.engine import Engine, EngineOptions
from models.streaming.options import RetentionOptions, StreamOptions
from models.streaming.session import StreamingSession, comment, timed_frames
from tests.waiting import PATIENCE_S, until

WINDOW = RetentionOptions("window")


def jpeg(picture: np.ndarray, **how) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", **{"quality": 90, **how})
    return buffer.getvalue()


def read_films(n_frames: int = 22) -> list[list[bytes]]:
    """The beginnings of the shipped matches as JPEGs, 2 a second."""
    limits = VideoLimits(max_pixels=112 * 196)
    pieces = []
    for path in NANO_MATCHES:
        frames = [f.frame for f, _ in zip(live_frames(path, limits=limits), range(n_frames), strict=False)]
        pieces.append([jpeg(frame.permute(1, 2, 0).numpy()) for frame in frames])
    return pieces


class Client(httpx.Client):
    """One server's client, and what a session is asked for."""

    def open(self, **new) -> str:
        answer = self.post("/sessions", json={"realtime": False, "max_new_tokens": 8, **new})
        assert answer.status_code == 201, answer.text
        return answer.json()["id"]

    def push(self, session_id: str, frames, start_s: float = 0.0) -> None:
        for i, frame in enumerate(frames):
            answer = self.frame(session_id, frame, start_s + i / 2)
            assert answer.status_code == 200 and answer.json() == {"taken": True, "grid_s": start_s + i / 2}, (
                answer.text
            )

    def frame(self, session_id: str, frame: bytes, time_s: float | None = None):
        time = {} if time_s is None else {"params": {"time_s": time_s}}
        return self.post(
            f"/sessions/{session_id}/frames", content=frame, headers={"Content-Type": "image/jpeg"}, **time
        )

    def events(self, session_id: str, until: str = "end", n: int = 1, **how) -> list[dict]:
        """Records from the stream of events up to the n-th of a type."""
        records = []
        with self.stream("GET", f"/sessions/{session_id}/events", timeout=PATIENCE_S, **how) as answer:
            assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    records.append(json.loads(line.removeprefix("data: ")))
                    n -= records[-1]["type"] == until
                    if n == 0:
                        break
        return records

    def finish(self, session_id: str) -> list[dict]:
        assert self.post(f"/sessions/{session_id}/end").status_code == 200
        return self.events(session_id)


@contextlib.contextmanager
def serving(checkpoint, **options):
    """A client of a server in this process; client.sessions is what it serves."""
    options = ServerOptions(**options)
    engine = Engine(checkpoint, EngineOptions(options.max_sessions))
    sessions = Sessions(engine, options, WINDOW)
    server = make_server(create_app(sessions, options), sessions, options, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    try:
        with Client(base_url=server.address, timeout=PATIENCE_S) as client:
            client.sessions, client.server, client.thread = sessions, server, thread
            yield client
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def socket_url(client, session_id: str, more: str = "") -> str:
    return f"{str(client.base_url).replace('http', 'ws').rstrip('/')}/sessions/{session_id}/stream{more}"


def said(records: list[dict]) -> list[tuple[float, str]]:
    return [(record["end_s"], record["text"]) for record in records if record["type"] == "step"]


def alone(checkpoint, film: list[bytes], limits: VideoLimits) -> list[tuple[float, str]]:
    """What a session without any server says of the same JPEGs."""
    reader = FrameReader(limits, 10**7, 10**7)
    frames = torch.stack([reader.read(frame) for frame in film])
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=8, retention=WINDOW))
    return [(step.end_s, step.text) for step in comment(session, timed_frames(frames))]


def expected(checkpoint, film: list[bytes]) -> list[tuple[float, str]]:
    """What a session without any server says of the same JPEGs."""
    engine = Engine(checkpoint)
    engine.close()
    return alone(checkpoint, film, Sessions(engine, ServerOptions()).limits)
