"""demo/serve.py: the end of a server, and what a restart finds."""

import contextlib
import signal
import subprocess
import sys
import threading

import pytest

from tests.conftest import REPOSITORY
from tests.serving import PATIENCE_S, Client, expected, said, serving


@pytest.fixture(scope="module")
def client(nano_checkpoint):
    with serving(nano_checkpoint) as client:
        yield client


def test_a_clean_end_finishes_what_has_come(nano_checkpoint, films):
    with serving(nano_checkpoint) as client:
        session_id = client.open()
        records = []
        reader = threading.Thread(target=lambda: records.extend(client.events(session_id)))
        reader.start()
        client.push(session_id, films[0])
        client.server.should_exit = True
        client.thread.join(PATIENCE_S)
        reader.join(PATIENCE_S)
    assert said(records) == expected(nano_checkpoint, films[0]) and records[-1]["type"] == "end"


def test_a_saved_session_goes_on_and_can_be_deleted(nano_checkpoint, films, tmp_path):
    with serving(nano_checkpoint, save_dir=str(tmp_path)) as client:
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
def test_a_server_that_was_stopped_or_killed_starts_again(nano_checkpoint, films, tmp_path):
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
    with serving(nano_checkpoint, save_dir=str(tmp_path)) as client:
        resumed = client.post("/sessions", json={"resume": session_id, "realtime": False}).json()
        assert resumed["next_s"] == 7.0
        client.push(session_id, film[14:], 7.0)
        records = client.finish(session_id)
    assert said(records) == expected(nano_checkpoint, film) and said(records)[:2] == said(first)
