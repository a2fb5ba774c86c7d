"""demo/serve.py: sessions over HTTP and WebSocket, what each says, and what is left of them."""

import asyncio
import contextlib
import json
import math
import threading
from dataclasses import replace

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from data.video.live import live_frames
from demo.live.events import EventLog
from demo.server.metrics import BUCKETS_S
from models.streaming.options import StreamOptions
from models.streaming.session import StreamingSession, comment, timed_frames
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
    asked = {}
    for question in ("What is the score?", "Who has the ball?"):
        answer = client.post(f"/sessions/{session_id}/questions", json={"question": question})
        assert answer.status_code == 202
        asked[answer.json()["id"]] = question
    client.push(session_id, films[0][:8])
    records = client.finish(session_id)
    answers = {record["id"]: record for record in records if record["type"] == "answer"}
    assert {number: answer["question"] for number, answer in answers.items()} == asked and len(asked) == 2
    assert len({answer["text"] for answer in answers.values()}) == 2
    for number, answer in answers.items():
        pieces = [record["text"] for record in records if record["type"] == "piece" and record["id"] == number]
        assert answer["text"] == "".join(pieces).strip()


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
    def not_heard_of_for(seconds: float) -> None:
        for session in client.sessions.sessions.values():
            session.heard_s -= seconds
        loop = client.sessions.sessions[followed].log._loop
        asyncio.run_coroutine_threadsafe(client.sessions._sweep(), loop).result(PATIENCE_S)

    with serving(nano_checkpoint, session_timeout_s=100) as client:
        session_id, followed = client.open(), client.open()
        with client.stream("GET", f"/sessions/{followed}/events"):
            until(lambda: client.sessions.sessions[followed].log.n_readers == 1)
            not_heard_of_for(101)
            messages = [record.get("message") for record in client.sessions.sessions[session_id].log.after(0)]
            assert "no client has sent or read anything for 100 s" in messages
            until(lambda: client.sessions.sessions[session_id].log.ended)
            assert client.get(f"/sessions/{followed}").json()["state"] == "open"
            not_heard_of_for(101)
            until(lambda: session_id not in client.sessions.sessions)
        until(lambda: client.sessions.sessions[followed].log.n_readers == 0)
        not_heard_of_for(101)
        until(lambda: client.sessions.sessions[followed].log.ended)
        until(lambda: client.sessions.engine.stats()["streams"] == 0)


def test_two_hundred_sessions_leave_nothing(client):
    before = client.sessions.engine.stats()["streams"], set(client.sessions.sessions)
    client.delete(f"/sessions/{client.open()}")
    n_threads = threading.active_count()
    for _ in range(200):
        client.delete(f"/sessions/{client.open()}")
    assert (client.sessions.engine.stats()["streams"], set(client.sessions.sessions)) == before
    assert threading.active_count() <= n_threads + 8 and not client.sessions._opening  # threads of asyncio's pool


def measured(client) -> dict[tuple[str, ...], float]:
    """What /metrics says, by name and labels, as Prometheus' own parser reads it."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_metrics_say_what_was_done(nano_checkpoint, films):
    with serving(nano_checkpoint) as client:
        session_id = client.open(max_answer_tokens=4)
        client.post(f"/sessions/{session_id}/questions", json={"question": "Who?"})
        client.push(session_id, films[0][:10])
        client.frame(session_id, films[0][0], 4.5)
        client.frame(session_id, b"", 5.0)
        records = client.finish(session_id)
        state = client.get(f"/sessions/{session_id}").json()
        client.open()
        samples = measured(client)
    steps = [record for record in records if record["type"] == "step"]
    assert samples["livecc_steps_total", "0"] == len(steps) == samples["livecc_step_lag_seconds_count", "0"] > 2
    sums = sum(record["lag_s"] for record in steps)
    assert samples["livecc_step_lag_seconds_sum", "0"] == pytest.approx(sums, abs=0.001 * len(steps))
    buckets = [value for (name, *_), value in samples.items() if name == "livecc_step_lag_seconds_bucket"]
    assert buckets == [sum(record["lag_s"] <= bound for record in steps) for bound in (*BUCKETS_S, math.inf)]
    fates = [samples["livecc_frames_total", "0", fate] for fate in ("taken", "thinned", "refused")]
    assert fates == [10, 1, 1] == [state["n_frames"], state["n_thinned"], state["n_refused"]]
    counts = [samples[f"livecc_{name}_total", "0"] for name in ("words", "tokens", "answers", "opened", "errors")]
    assert counts == [state["n_words"], state["n_tokens"], 1, 2, 0]
    assert state["n_words"] == sum(len(step["text"].split()) for step in steps) > 0
    assert state["n_tokens"] == sum(step["n_tokens"] for step in steps)
    assert samples["livecc_streams", "0"] == 1 and samples["livecc_cache_bytes", "0"] > 0
    assert samples["livecc_dropped_total", "0"] == state["n_dropped"] == 0


def test_late_frames_are_dropped_and_counted(nano_checkpoint, films):
    """Frames come while the model is held: all but the newest step are too late for it then, unless all are wanted."""
    with serving(nano_checkpoint) as client:
        engine, held = client.sessions.engine, threading.Event()
        engine.options = replace(engine.options, max_lag_s=0.0)
        execute = engine.batch.execute
        engine.batch.execute = lambda requests: held.wait(PATIENCE_S) and execute(requests)

        session_id, patient = client.open(realtime=True), client.open(realtime=False)
        client.push(session_id, films[0][:6])
        until(lambda: client.get(f"/sessions/{session_id}").json()["n_waiting"] == 0)  # the first step has begun
        client.push(session_id, films[0][6:16], 3.0)
        client.push(patient, films[1][:14])  # all that may wait
        assert measured(client)["livecc_waiting_frames", "0"] == 24
        held.set()
        records, everything = client.finish(session_id), client.finish(patient)
        state, samples = client.get(f"/sessions/{session_id}").json(), measured(client)
    assert [end_s for end_s, _ in said(records)] == [3.0, 8.0]
    assert records[-1]["n_dropped"] == state["n_dropped"] == samples["livecc_dropped_total", "0"] == 8
    assert samples["livecc_frames_total", "0", "taken"] == state["n_frames"] + 14 == 30
    assert said(everything) == expected(nano_checkpoint, films[1][:14]) and everything[-1]["n_dropped"] == 0
