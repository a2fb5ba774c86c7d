"""demo/serve.py: how much it takes, how fast, and how it refuses the rest."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from websockets.sync.client import connect

from data.video.frame_plan import VideoLimits
from demo.live.api_error import ApiError
from demo.live.bucket import TokenBucket
from demo.live.frame_clock import FrameClock
from demo.live.frames import FrameReader
from tests.serving import PATIENCE_S, expected, jpeg, said, serving, socket_url, until


@pytest.fixture(scope="module")
def client(nano_checkpoint):
    with serving(nano_checkpoint) as client:
        yield client


def test_a_session_too_many_is_refused(nano_checkpoint):
    with serving(nano_checkpoint, max_sessions=1) as client:
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


def test_bad_frames_are_refused_and_the_session_lives_on(nano_checkpoint, films):
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
    with serving(nano_checkpoint, max_frame_bytes=200_000, max_frame_pixels=2_000_000) as client:
        session_id = client.open()
        for frame, status, said_of_it in cases:
            answer = client.frame(session_id, frame, 0.0)
            assert (answer.status_code, said_of_it in answer.text) == (status, True), answer.text
            assert set(answer.json()) == {"error", "limit", "cause", "next_step"} and "Traceback" not in answer.text
        for time_s in ("-1", "inf", "nan", "1e99", "x"):
            assert client.frame(session_id, films[0][0], time_s).status_code == 422
        client.push(session_id, films[0])
        assert said(client.finish(session_id)) == expected(nano_checkpoint, films[0])
        streamed = client.post(f"/sessions/{session_id}/frames", content=iter([b"x" * 150_000] * 2))
        assert streamed.status_code == 413
        assert client.post("/sessions", content=b'"' + b"x" * 70_000 + b'"').status_code == 413


def test_a_frame_too_large_is_refused_on_a_websocket_too(nano_checkpoint, films):
    small, large = films[0][0], jpeg(np.random.default_rng(0).integers(0, 255, (112, 196, 3), np.uint8))
    assert len(small) < len(large)
    with serving(nano_checkpoint, max_frame_bytes=len(large) - 1) as client:
        session_id = client.open()
        with connect(socket_url(client, session_id)) as socket:
            assert json.loads(socket.recv(PATIENCE_S))["type"] == "header"
            for frame in (large, small):
                socket.send(frame)
            until(lambda: client.sessions.sessions[session_id].frames.total() == 2)
            assert client.sessions.sessions[session_id].frames == {"refused": 1, "taken": 1}
            refused = json.loads(socket.recv(PATIENCE_S))
            assert (refused["type"], refused["status"], refused["limit"]) == ("refused", 413, len(large) - 1)


def test_frames_come_no_faster_than_allowed(nano_checkpoint, films):
    with serving(nano_checkpoint, max_frames_per_second=1) as client:
        session_id, answers = client.open(), []
        while len(answers) < 200 and (not answers or answers[-1].status_code == 200):  # faster than one a second
            answers.append(client.frame(session_id, films[0][0], 0.0))
        assert len(answers) > 2 and answers[-1].status_code == 429
        assert answers[0].json()["taken"] and not answers[1].json()["taken"]
        state = client.get(f"/sessions/{session_id}").json()
        assert (state["n_frames"], state["n_thinned"], state["n_refused"]) == (1, len(answers) - 2, 1)
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


# parts


def test_frames_are_put_on_the_grid():
    arrivals = FrameClock()
    taken = []
    for i in range(50):  # 30 a second from the tenth second of a clock
        grid_s = arrivals.place(None, 10 + i / 30)
        if grid_s is not None:
            arrivals.take(grid_s, False, 10 + i / 30)
            taken.append((round(i / 30, 2), grid_s))
    assert taken == [(0.0, 0.0), (0.27, 0.5), (0.77, 1.0), (1.27, 1.5)]
    with pytest.raises(ApiError, match="with and without"):
        arrivals.place(3.0, 12.0)


def test_all_frames_take_the_first_ones_size(films):
    reader = FrameReader(VideoLimits(max_pixels=112 * 196), 10**6, 10**6)
    first = reader.read(films[0][0])
    for size_hw in ((300, 100), (112, 196), (31, 500)):
        assert reader.read(jpeg(np.zeros((*size_hw, 3), np.uint8))).shape == first.shape


def test_times_of_clients_are_rounded_to_the_grid():
    arrivals = FrameClock(start_s=3.0)
    placed = []
    for time_s in (2.9, 3.1, 3.2, 3.74, 3.75, 4.25, 9.0, 8.6):
        grid_s = arrivals.place(time_s, 0.0)
        placed.append(grid_s)
        if grid_s is not None:
            arrivals.take(grid_s, True, 0.0)
    assert placed == [3.0, None, None, 3.5, 4.0, 4.5, 9.0, None]
    with pytest.raises(ApiError):
        arrivals.place(7.0, 0.0)


def test_a_bucket_fills_at_its_rate():
    bucket = TokenBucket(2.0)
    assert [bucket.take(100.0) for _ in range(5)] == [0, 0, 0, 0, 0.5]
    assert bucket.take(100.5) == 0 and bucket.take(100.5) > 0 and bucket.take(10_000) == 0
