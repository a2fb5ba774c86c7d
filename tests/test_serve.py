"""demo/serve.py: sessions over HTTP and WebSocket, what each says, and what is left of them."""

import asyncio
import contextlib
import json
import threading

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from data.live import live_frames
from demo.server.events import EventLog
from models.options import StreamOptions
from models.streaming import StreamingSession, comment, timed_frames
from tests.serving import PATIENCE_S, WINDOW, expected, said, serving, socket_url, until
from tests.videos import make_video


@pytest.fixture(scope="module")
def client(nano_checkpoint):
    with serving(nano_checkpoint) as client:
        yield client


# a session


def test_two_sessions_say_what_each_says_alone(nano_checkpoint, client, films):
    ids = [client.open(), client.open()]
    for i in range(22):
        for session_id, film in zip(ids, films, strict=True):
            client.push(session_id, [film[i]], i / 2)
    for session_id, film in zip(ids, films, strict=True):
        records = client.finish(session_id)
        assert records[0]["type"] == "header" and records[-1]["reason"] == "end of source"
        assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
        assert said(records) == expected(nano_checkpoint, film)
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


def test_a_source_on_the_list_is_watched(nano_checkpoint, tmp_path):
    video = make_video(tmp_path / "clip.mp4", 60, size_hw=(112, 196), fps=10)
    with serving(nano_checkpoint, allow_source=[str(tmp_path)]) as client:
        records = client.events(client.open(source="clip.mp4"))
        session_id = client.open(source=str(video), realtime=True)
        assert client.frame(session_id, b"").status_code == 409
        assert client.post("/sessions", json={"source": "/etc/passwd"}).status_code == 403
        assert client.post("/sessions", json={"source": "none.mp4"}).status_code == 404
        limits = client.sessions.limits
    frames = torch.stack([timed.frame for timed in live_frames(video, limits=limits)])
    session = StreamingSession(nano_checkpoint, StreamOptions(max_new_tokens=8, retention=WINDOW))
    assert said(records) == [(s.end_s, s.text) for s in comment(session, timed_frames(frames))]
    assert records[-1]["reason"] == "end of source"


def test_a_broken_source_is_told_without_the_servers_paths(nano_checkpoint, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    with serving(nano_checkpoint, allow_source=[str(tmp_path)]) as client:
        records = client.events(client.open(source="broken.mp4"))
    (error,) = [record["message"] for record in records if record["type"] == "error"]
    assert "broken.mp4" in error and str(tmp_path) not in error


# the WebSocket


def test_a_websocket_carries_frames_questions_and_records(nano_checkpoint, client, films):
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
    assert said(records) == expected(nano_checkpoint, films[0])
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


# the log of its records


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


# all sessions


def test_a_session_that_nobody_uses_is_closed(nano_checkpoint, films):
    with serving(nano_checkpoint, session_timeout_s=0.3) as client:
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


def test_metrics_say_what_was_done(nano_checkpoint, films):
    with serving(nano_checkpoint) as client:
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
