"""demo/serve.py: sessions over HTTP and WebSocket, their limits, who is let in, and what a restart leaves."""

import asyncio
import contextlib
import io
import json
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from data.live import live_frames
from demo.cli import NANO_CHECKPOINT
from demo.server.allowed_sources import AllowedSources
from demo.server.app import create_app
from demo.server.arrivals import Arrivals
from demo.server.bucket import TokenBucket
from demo.server.events import EventLog
from demo.server.listening import make_server
from demo.server.options import ServerOptions
from demo.server.refusal import Refusal
from demo.server.sessions import Sessions
from models.engine import Engine, EngineOptions
from models.load import load_checkpoint
from models.streaming import StreamingSession, StreamOptions, comment, timed_frames
from tests.conftest import REPOSITORY
from tests.serving import PATIENCE_S, WINDOW, Client, alone, jpeg, read_films, said, until
from tests.videos import make_video
from utils.errors import UserError

TOKEN = "a token for tests"


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(NANO_CHECKPOINT, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def films() -> list[list[bytes]]:
    """Two pieces of the shipped matches, 11 s each."""
    return read_films()


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


@pytest.fixture(scope="module")
def client(checkpoint):
    with serving(checkpoint) as client:
        yield client


def expected(checkpoint, film: list[bytes]) -> list[tuple[float, str]]:
    """What a session without any server says of the same JPEGs."""
    engine = Engine(checkpoint)
    engine.close()
    return alone(checkpoint, film, Sessions(engine, ServerOptions()).limits)


# a session


def test_two_sessions_say_what_each_says_alone(checkpoint, client, films):
    ids = [client.open(), client.open()]
    for i in range(22):
        for session_id, film in zip(ids, films, strict=True):
            client.push(session_id, [film[i]], i / 2)
    for session_id, film in zip(ids, films, strict=True):
        records = client.finish(session_id)
        assert records[0]["type"] == "header" and records[-1]["reason"] == "end of source"
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        assert said(records) == expected(checkpoint, film)
        state = client.get(f"/sessions/{session_id}").json()
        assert state["state"] == "ended" and state["n_frames"] == 22 and state["next_s"] == 11.0
    assert any(text for _, text in said(records))


def test_a_question_is_answered_among_the_records(client, films):
    session_id = client.open(max_answer_tokens=6)
    asked = client.post(f"/sessions/{session_id}/questions", json={"question": "What is the score?"})
    assert asked.status_code == 202
    client.push(session_id, films[0][:8])
    records = client.finish(session_id)
    answer = next(record for record in records if record["type"] == "answer")
    pieces = [record["text"] for record in records if record["type"] == "piece"]
    assert answer["id"] == asked.json()["id"] and answer["text"] == "".join(pieces).strip()


def test_a_reader_goes_on_where_it_was(client, films):
    session_id = client.open()
    client.push(session_id, films[0][:10])
    first = client.events(session_id, until="step", n=2)
    everything = client.finish(session_id)
    rest = client.events(session_id, headers={"Last-Event-ID": str(first[-1]["seq"])})
    assert first + rest == everything
    lines = client.get(f"/sessions/{session_id}/commentary", params={"after": first[-1]["seq"]}).text.splitlines()
    assert [json.loads(line) for line in lines] == rest
    last = everything[-1]["seq"]
    assert client.get(f"/sessions/{session_id}/events", headers={"Last-Event-ID": str(last)}).status_code == 204
    for after in (str(last + 1), "x"):
        assert client.get(f"/sessions/{session_id}/events", headers={"Last-Event-ID": after}).status_code == 422


def test_a_closed_session_is_forgotten(client, films):
    session_id = client.open()
    client.push(session_id, films[0][:3])
    assert client.delete(f"/sessions/{session_id}").json()["closed"]
    for answer in (client.get(f"/sessions/{session_id}"), client.frame(session_id, films[0][0], 9.0)):
        assert answer.status_code == 404 and "not here" in answer.json()["error"]
    assert client.delete(f"/sessions/{session_id}").status_code == 404


def test_a_source_on_the_list_is_watched(checkpoint, tmp_path):
    video = make_video(tmp_path / "clip.mp4", 60, size_hw=(112, 196), fps=10)
    with serving(checkpoint, allow_source=[str(tmp_path)]) as client:
        records = client.events(client.open(source="clip.mp4"))
        session_id = client.open(source=str(video), realtime=True)
        assert client.frame(session_id, b"").status_code == 409
        assert client.post("/sessions", json={"source": "/etc/passwd"}).status_code == 403
        assert client.post("/sessions", json={"source": "none.mp4"}).status_code == 404
        limits = client.sessions.limits
    frames = torch.stack([timed.frame for timed in live_frames(video, limits=limits)])
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=8, retention=WINDOW))
    assert said(records) == [(s.end_s, s.text) for s in comment(session, timed_frames(frames))]
    assert records[-1]["reason"] == "end of source"


def test_a_broken_source_is_told_without_the_servers_paths(checkpoint, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    with serving(checkpoint, allow_source=[str(tmp_path)]) as client:
        records = client.events(client.open(source="broken.mp4"))
    (error,) = [record["message"] for record in records if record["type"] == "error"]
    assert "broken.mp4" in error and str(tmp_path) not in error


# the WebSocket


def socket_url(client, session_id: str, more: str = "") -> str:
    return f"{str(client.base_url).replace('http', 'ws').rstrip('/')}/sessions/{session_id}/stream{more}"


def test_a_websocket_carries_frames_questions_and_records(checkpoint, client, films):
    session_id = client.open(max_answer_tokens=4)
    records = []
    with connect(socket_url(client, session_id)) as socket:
        for bad in (b"no jpeg", "no json", '{"type": "dance"}', '{"type": "frame", "time_s": "x"}'):
            socket.send(bad)
        for i, frame in enumerate(films[0]):
            socket.send(json.dumps({"type": "frame", "time_s": i / 2}))
            socket.send(frame)
        socket.send(json.dumps({"type": "ask", "question": "What is the score?"}))
        while not any(record["type"] == "asked" for record in records):
            records.append(json.loads(socket.recv(PATIENCE_S)))
        socket.send(json.dumps({"type": "end"}))
        with contextlib.suppress(ConnectionClosed):
            while True:
                records.append(json.loads(socket.recv(PATIENCE_S)))
    assert [record["status"] for record in records if record["type"] == "refused"] == [422] * 4
    assert said(records) == expected(checkpoint, films[0])
    assert sum(record["type"] == "answer" for record in records) == 1 and records[-1]["type"] == "end"


def test_a_websocket_can_come_back(client, films):
    session_id = client.open()
    with connect(socket_url(client, session_id)) as socket:
        client.push(session_id, films[0][:6])
        before = [json.loads(socket.recv(PATIENCE_S)) for _ in range(2)]
    records = client.finish(session_id)
    with connect(socket_url(client, session_id, f"?after={before[-1]['seq']}")) as socket:
        after = [json.loads(socket.recv(PATIENCE_S)) for _ in range(len(records) - 2)]
    assert before + after == records


# who is let in


@pytest.fixture(scope="module")
def guarded(checkpoint):
    with serving(checkpoint, token=TOKEN) as client:
        yield client


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/openapi.json", "/sessions/x", f"/metrics?token={TOKEN}"])
@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
def test_without_the_token_nothing_is_served(guarded, path, header):
    answer = guarded.get(path, headers=header)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_with_the_token_everything_is(guarded, films):
    assert guarded.get("/health").status_code == 200
    header = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/docs", headers=header).status_code == 200
    session_id = guarded.post("/sessions", json={}, headers=header).json()["id"]
    url = socket_url(guarded, session_id)
    for how, first in (({"additional_headers": header}, None), ({}, {"type": "auth", "token": TOKEN})):
        with connect(url, **how) as socket:
            if first:
                socket.send(json.dumps(first))
            assert json.loads(socket.recv(PATIENCE_S))["type"] == "header"
    for first in ('{"type": "auth", "token": "wrong"}', '{"type": "end"}', "junk"):
        with connect(url) as socket:
            socket.send(first)
            assert json.loads(socket.recv(PATIENCE_S))["type"] == "refused"
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(PATIENCE_S)
            assert closed.value.rcvd.code == 1008
    with pytest.raises(InvalidStatus):
        connect(url, additional_headers={"Authorization": "Bearer wrong"})


@pytest.mark.parametrize(
    "header",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
    ids=str,
)
def test_other_hosts_and_pages_are_refused(client, header):
    assert client.get("/health", headers=header).status_code == 403
    assert client.post("/sessions", json={}, headers=header).status_code == 403
    if "Host" not in header:
        with pytest.raises(InvalidStatus, match="403"):
            connect(socket_url(client, "x"), additional_headers=header)


def test_its_own_page_and_names_are_served(client):
    port = client.base_url.port
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "[::1]:8000", "192.168.1.7"):
        header = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert client.get("/health", headers=header).status_code == 200
        assert "access-control-allow-origin" not in client.get("/health", headers=header).headers


# limits


def test_a_session_too_many_is_refused(checkpoint):
    with serving(checkpoint, max_sessions=1) as client:
        first = client.open()
        answer = client.post("/sessions", json={})
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
        assert "1 streams are open" in answer.json()["error"]
        client.delete(f"/sessions/{first}")
        client.open()


def scans(n: int) -> bytes:
    return jpeg(np.zeros((16, 16, 3), np.uint8)) + b"\xff\xda" * n


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


def test_bad_frames_are_refused_and_the_session_lives_on(checkpoint, films):
    grey = np.zeros((64, 64, 3), np.uint8)
    cases = [
        (b"", 422, "body is empty"),
        (b"junk" * 50, 422, "cannot be read"),
        (jpeg(grey)[:-60] + b"\xff", 422, "cannot be read"),
        (films[0][0][: len(films[0][0]) // 2], 422, "truncated"),
        (png(), 422, "another format"),
        (scans(100), 422, "scans"),
        (jpeg(np.zeros((1000, 2, 3), np.uint8)), 422, "aspect ratio"),
        (jpeg(np.zeros((2000, 1200, 3), np.uint8)), 413, "2000000"),
        (b"\xff" * 200_001, 413, "200000"),
    ]
    with serving(checkpoint, max_frame_bytes=200_000, max_frame_pixels=2_000_000) as client:
        session_id = client.open()
        for frame, status, said_of_it in cases:
            answer = client.frame(session_id, frame, 0.0)
            assert (answer.status_code, said_of_it in answer.text) == (status, True), answer.text
            assert set(answer.json()) == {"error", "limit", "cause", "next_step"} and "Traceback" not in answer.text
        for time_s in ("-1", "inf", "nan", "1e99", "x"):
            assert client.frame(session_id, films[0][0], time_s).status_code == 422
        client.push(session_id, films[0])
        assert said(client.finish(session_id)) == expected(checkpoint, films[0])
        streamed = client.post(f"/sessions/{session_id}/frames", content=iter([b"x" * 150_000] * 2))
        assert streamed.status_code == 413
        assert client.post("/sessions", content=b'"' + b"x" * 70_000 + b'"').status_code == 413


def test_frames_come_no_faster_than_allowed(checkpoint, films):
    with serving(checkpoint, max_frames_per_second=2) as client:
        session_id = client.open()
        answers = [client.frame(session_id, films[0][0], 0.0) for _ in range(8)]
        assert [answer.status_code for answer in answers][:4] == [200] * 4 and answers[-1].status_code == 429
        assert answers[0].json()["taken"] and not answers[1].json()["taken"]
        assert int(answers[-1].headers["retry-after"]) >= 1


def test_only_a_few_questions_wait(client):
    session_id = client.open()
    answers = [client.post(f"/sessions/{session_id}/questions", json={"question": "Who?"}) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202] * 4 + [429]
    assert client.post(f"/sessions/{session_id}/questions", json={"question": "x" * 3000}).status_code == 422
    assert client.finish(session_id)[-1]["type"] == "end"  # nothing was seen, so nothing is answered


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"qeury": "x"}, "qeury"),
        ({"max_new_tokens": 0}, "max_new_tokens: 0"),
        ({"max_new_tokens": 10**6}, "256"),
        ({"resume": "../../etc/passwd"}, "resume"),
        ({"resume": "0" * 32, "seed": 3}, "leave that out"),
        ({"temperature": "hot"}, "temperature"),
        ({"source": "-"}, "not on this server's list"),
        ([], "body"),
    ],
)
def test_a_bad_request_is_answered_with_what_is_wrong(client, body, message):
    answer = client.post("/sessions", json=body)
    assert answer.status_code in (403, 422) and message in answer.text, answer.text
    assert set(answer.json()) == {"error", "limit", "cause", "next_step"}
    assert client.get("/nothing").json()["error"] == "Not Found"


def test_a_session_that_nobody_uses_is_closed(checkpoint, films):
    with serving(checkpoint, session_timeout_s=0.3) as client:
        session_id = client.open()
        followed = client.open()
        with client.stream("GET", f"/sessions/{followed}/events"):
            until(lambda: session_id not in client.sessions.sessions)
            assert client.get(f"/sessions/{followed}").json()["state"] == "open"
        until(lambda: followed not in client.sessions.sessions)
        assert client.sessions.engine.stats()["streams"] == 0


def test_two_hundred_sessions_leave_nothing(client):
    before = client.sessions.engine.stats()["streams"], set(client.sessions.sessions)
    client.delete(f"/sessions/{client.open()}")
    n_threads = threading.active_count()
    for _ in range(200):
        client.delete(f"/sessions/{client.open()}")
    assert (client.sessions.engine.stats()["streams"], set(client.sessions.sessions)) == before
    assert threading.active_count() <= n_threads + 8 and not client.sessions._opening  # threads of asyncio's pool


def test_metrics_say_what_was_done(checkpoint, films):
    with serving(checkpoint) as client:
        session_id = client.open()
        client.push(session_id, films[0][:10])
        client.frame(session_id, films[0][0], 4.5)
        client.frame(session_id, b"", 5.0)
        n_steps = len(said(client.finish(session_id)))
        client.open()
        page = client.get("/metrics").text
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    assert samples["livecc_steps_total", "0"] == n_steps == samples["livecc_step_lag_seconds_count", "0"]
    fates = [samples["livecc_frames_total", "0", fate] for fate in ("taken", "thinned", "refused")]
    assert fates == [10, 1, 1]
    assert samples["livecc_streams", "0"] == 1 and samples["livecc_cache_bytes", "0"] > 0
    assert samples["livecc_tokens_total", "0"] >= n_steps and samples["livecc_dropped_total", "0"] == 0


# parts


def test_frames_are_put_on_the_grid():
    arrivals = Arrivals()
    taken = []
    for i in range(50):  # 30 a second from the tenth second of a clock
        grid_s = arrivals.place(None, 10 + i / 30)
        if grid_s is not None:
            arrivals.take(grid_s, False, 10 + i / 30)
            taken.append((round(i / 30, 2), grid_s))
    assert taken == [(0.0, 0.0), (0.27, 0.5), (0.77, 1.0), (1.27, 1.5)]
    with pytest.raises(Refusal, match="with and without"):
        arrivals.place(3.0, 12.0)


def test_times_of_clients_are_rounded_to_the_grid():
    arrivals = Arrivals(start_s=3.0)
    placed = []
    for time_s in (2.9, 3.1, 3.2, 3.74, 3.75, 9.0, 8.6):
        grid_s = arrivals.place(time_s, 0.0)
        placed.append(grid_s)
        if grid_s is not None:
            arrivals.take(grid_s, True, 0.0)
    assert placed == [3.0, None, None, 3.5, 4.0, 9.0, None]
    with pytest.raises(Refusal):
        arrivals.place(7.0, 0.0)


def test_a_bucket_fills_at_its_rate():
    bucket = TokenBucket(2.0)
    assert [bucket.take(100.0) for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert bucket.take(100.5) == 0 and bucket.take(100.5) > 0 and bucket.take(10_000) == 0


def test_a_slow_reader_is_told_how_much_it_missed():
    async def run() -> None:
        log = EventLog(asyncio.get_running_loop(), n_kept=10)
        reading = log.follow(0, beat_s=0.01)
        assert await anext(reading) is None
        writer = threading.Thread(target=lambda: [log.append({"type": "step", "n": n}) for n in range(1000)])
        writer.start()
        writer.join()
        records = [await anext(reading) for _ in range(11)]
        assert records[0] == {"seq": 990, "type": "lost", "n": 990} and log.n_forgotten == 990
        assert [record["seq"] for record in records[1:]] == list(range(991, 1001))
        log.append({"type": "end"})
        assert [record["seq"] async for record in log.follow(995)] == list(range(996, 1002))
        assert await log.until_ended(1) and log.after(1001) == [] and log.after(5000) == []
        await reading.aclose()
        assert log.n_readers == 0

    asyncio.run(run())


@pytest.fixture
def shelf(tmp_path):
    """An allowed folder, and what lies around it."""
    allowed = tmp_path / "videos"
    for folder in (allowed / "deep", allowed / "leaky", allowed / "fine", tmp_path / "videos2"):
        folder.mkdir(parents=True)
    for path in (allowed / "a.mp4", allowed / "deep" / "b.mp4", tmp_path / "videos2" / "c.mp4", tmp_path / "d.mp4"):
        path.write_bytes(b"x")
    Image.new("RGB", (64, 64)).save(allowed / "fine" / "1.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "secret.png")
    (allowed / "leaky" / "1.png").symlink_to(tmp_path / "secret.png")
    (allowed / "out.mp4").symlink_to(tmp_path / "d.mp4")
    (allowed / "up").symlink_to(tmp_path)
    (allowed / "loop").symlink_to(allowed / "loop")
    (allowed / "in.mp4").symlink_to(allowed / "a.mp4")
    return allowed


@pytest.mark.parametrize("name", ["a.mp4", "deep/b.mp4", "deep/../a.mp4", "in.mp4", "fine", "{}/a.mp4", "{}/fine"])
def test_allowed_names_are_opened(shelf, name):
    assert AllowedSources([str(shelf)]).check(name.format(shelf)).address.startswith(str(shelf))


@pytest.mark.parametrize(
    "name",
    [
        "../d.mp4", "{}/../d.mp4", "{}2/c.mp4", "out.mp4", "up/d.mp4", "leaky", "loop", "/etc/passwd", "/etc/none", "",
        "-", "raw:64x64@2", "~/a.mp4", "a.mp4\0", "x" * 5000, "/dev/stdin", "camera:0", "lavfi:testsrc2", "camera:1",
        "file://{}/a.mp4", "..",
    ],
)  # fmt: skip
def test_other_names_are_refused_without_a_look(shelf, name):
    with pytest.raises(Refusal) as refused:
        AllowedSources([str(shelf), "lavfi:testsrc", "/dev/video7"]).check(name.format(shelf))
    assert refused.value.status_code == 403 and "not on this server's list" in refused.value.detail["cause"]


def test_urls_are_compared_by_their_parts():
    allowed = AllowedSources(["http://cam.local/live/", "rtsp://cam.local:8554/one", "lavfi:testsrc2"])
    for name in ("http://cam.local/live/a.m3u8", "http://CAM.local:80/live/b?x=1", "rtsp://cam.local:8554/one"):
        assert allowed.check(name).kind == "url"
    assert allowed.check("lavfi:testsrc2").kind == "lavfi"
    for name in (
        "http://cam.local.evil/live/a", "http://cam.local@evil/live/a", "http://evil/http://cam.local/live/",
        "http://cam.local/live/../x", "http://cam.local/live/%2e%2e/x", "http://cam.local/live/%252e%252e/x",
        "http://cam.local:81/live/a", "https://cam.local/live/a", "http://cam.local/live", "http://cam.local/live2/a",
        "http://u:p@cam.local/live/a", "http://cam.local/live/\\..\\x", "rtsp://cam.local:8554/one/two",
        "rtsp://cam.local:8554/one?x", "http://[cam.local/live/a", "http://cam.local:x/live/a", "http://cam.local/live/a\n",
    ):  # fmt: skip
        with pytest.raises(Refusal, match="403"):
            allowed.check(name)


@pytest.mark.parametrize("pattern", ["/", "no/such/folder", "ftp://x/"])
def test_a_list_that_cannot_be_meant_is_an_error(pattern):
    with pytest.raises(UserError):
        AllowedSources([pattern])


@pytest.mark.parametrize("bad", [{"token": "short"}, {"token": "has a \n in it"}, {"token_file": "none"}])
def test_a_token_that_cannot_work_is_an_error(bad):
    with pytest.raises(UserError, match="token"):
        ServerOptions(**bad).secret()


# the end, and after it


def test_a_clean_end_finishes_what_has_come(checkpoint, films):
    with serving(checkpoint) as client:
        session_id = client.open()
        records = []
        reader = threading.Thread(target=lambda: records.extend(client.events(session_id)))
        reader.start()
        client.push(session_id, films[0])
        client.server.should_exit = True
        client.thread.join(PATIENCE_S)
        reader.join(PATIENCE_S)
    assert said(records) == expected(checkpoint, films[0]) and records[-1]["type"] == "end"


def test_a_saved_session_goes_on_and_can_be_deleted(checkpoint, films, tmp_path):
    with serving(checkpoint, save_dir=str(tmp_path)) as client:
        session_id = client.open(query="Say what you see.")
        client.push(session_id, films[0][:10])
        client.events(session_id, until="step", n=3)
        saved = client.post(f"/sessions/{session_id}/save").json()
        assert saved["next_s"] == 5.0 and saved["n_bytes"] > 1000
        assert client.post("/sessions", json={"resume": session_id}).status_code == 409
        client.push(session_id, films[0][10:], 5.0)
        whole = client.finish(session_id)
        client.delete(f"/sessions/{session_id}", params={"keep_saved": True})
        again = client.post("/sessions", json={"resume": session_id, "realtime": False}).json()
        assert (again["next_s"], again["last_seq"] > saved["last_seq"]) == (5.0, True)
        assert again["query"] == "Say what you see."
        client.push(session_id, films[0][10:], 5.0)
        assert said(client.finish(session_id)) == said(whole)
        assert client.delete(f"/sessions/{session_id}").json()["removed_saved"]
        assert client.post("/sessions", json={"resume": session_id}).status_code == 404
    assert not list(tmp_path.iterdir())


def test_without_a_folder_nothing_is_saved(client):
    session_id = client.open()
    answer = client.post(f"/sessions/{session_id}/save")
    assert answer.status_code == 409 and "--save_dir" in answer.text


@contextlib.contextmanager
def process(folder):
    """A client of `demo/serve.py` in a process of its own."""
    command = [sys.executable, "demo/serve.py", "--port", "0", "--save_dir", str(folder), "--device", "cpu"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            line = next((line for line in server.stdout if line.startswith("listening on ")), None)
            assert line, server.stderr.read()
            with Client(base_url=line.split()[2], timeout=PATIENCE_S) as client:
                yield client, server
        finally:
            server.kill()


@pytest.mark.slow
def test_a_server_that_was_stopped_or_killed_starts_again(checkpoint, films, tmp_path):
    """SIGTERM loses nothing; SIGKILL loses what came after the last save."""
    film, reader_records = films[0], []
    with process(tmp_path) as (client, server):
        session_id = client.open()
        client.push(session_id, film[:9])
        first = client.events(session_id, until="step", n=2)
        reader = threading.Thread(target=lambda: reader_records.extend(client.events(session_id)))
        reader.start()
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) == 0 and "Traceback" not in server.stderr.read()
        reader.join(PATIENCE_S)
        assert reader_records[-1]["reason"] == "saved"
    with process(tmp_path) as (client, server):
        resumed = client.post("/sessions", json={"resume": session_id, "realtime": False}).json()
        assert resumed["next_s"] == 4.0
        client.push(session_id, film[8:14], 4.0)
        client.events(session_id, until="step", n=5)  # two before
        assert client.post(f"/sessions/{session_id}/save").json()["next_s"] == 7.0
        client.push(session_id, film[14:18], 7.0)
        client.events(session_id, until="step", n=7)
        server.kill()
    with serving(checkpoint, save_dir=str(tmp_path)) as client:
        resumed = client.post("/sessions", json={"resume": session_id, "realtime": False}).json()
        assert resumed["next_s"] == 7.0
        client.push(session_id, film[14:], 7.0)
        records = client.finish(session_id)
    assert said(records) == expected(checkpoint, film) and said(records)[:2] == said(first)
