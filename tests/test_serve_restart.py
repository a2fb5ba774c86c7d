"""demo/serve.py: the end of a server, and what a restart finds."""

import contextlib
import errno
import json
import signal
import socket
import subprocess
import sys
import threading

import pytest

from demo import app, serve
from tests.conftest import REPOSITORY
from tests.serving import PATIENCE_S, Client, expected, said, serving
from tests.waiting import until
from utils.errors import UserError


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
        client.push(session_id, films[0][:21])  # the last frame waits for another one
        client.server.should_exit = True
        client.thread.join(PATIENCE_S)
        reader.join(PATIENCE_S)
    assert said(records) == expected(nano_checkpoint, films[0][:21]) and records[-1]["reason"] == "end of source"


def test_saved_sessions_go_on_each_as_itself_and_can_be_deleted(nano_checkpoint, films, tmp_path):
    """Of two films, so that each could be taken for the other."""
    with serving(nano_checkpoint, save_dir=str(tmp_path)) as client:
        queries = ["Say what you see.", "Kommentiere das Spiel für Zuhörer."]
        ids = [client.open(query=query) for query in queries]
        wholes = {}
        for session_id, film in zip(ids, films, strict=True):
            client.push(session_id, film[:10])
            client.events(session_id, until="step", n=3)
            saved = client.post(f"/sessions/{session_id}/save").json()
            assert saved["next_s"] == 5.0 and saved["n_bytes"] > 1000
            assert client.post("/sessions", json={"resume": session_id}).status_code == 409
            client.push(session_id, film[10:], 5.0)
            wholes[session_id] = client.finish(session_id), saved["last_seq"]
            client.delete(f"/sessions/{session_id}", params={"keep_saved": True})
        assert said(wholes[ids[0]][0]) != said(wholes[ids[1]][0])
        for session_id, film, query in zip(reversed(ids), reversed(films), reversed(queries), strict=True):
            whole, last_seq = wholes[session_id]
            again = client.post("/sessions", json={"resume": session_id, "realtime": False}).json()
            # One record more: the header of the session that goes on.
            assert (again["id"], again["next_s"], again["last_seq"]) == (session_id, 5.0, last_seq + 1)
            assert again["query"] == query
            client.push(session_id, film[10:], 5.0)
            records = client.finish(session_id)
            assert said(records) == said(whole)
            assert not any(record["type"] == "lost" for record in records), "the new header is in the old one's place"
            behind = client.get(f"/sessions/{session_id}/commentary", params={"after": last_seq}).text.splitlines()
            assert [json.loads(line) for line in behind] == [record for record in records if record["seq"] > last_seq]
            assert said(records[-len(behind) :]) == said(whole)[3:]
            assert client.delete(f"/sessions/{session_id}").json()["removed_saved"]
            assert client.post("/sessions", json={"resume": session_id}).status_code == 404
    assert not list(tmp_path.iterdir())


def test_only_sessions_are_deleted(nano_checkpoint, tmp_path):
    (tmp_path / "notes.json").write_text("{}")
    with serving(nano_checkpoint, save_dir=str(tmp_path)) as client:
        for name in ("notes", "..", "%2e%2e%2fnotes", "*"):
            assert client.delete(f"/sessions/{name}").status_code in (404, 405, 422)
    assert (tmp_path / "notes.json").exists()


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


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device", "/srv/secret/place")


def test_a_full_disk_is_not_the_clients_fault(nano_checkpoint, films, tmp_path, monkeypatch, caplog):
    with serving(nano_checkpoint, save_dir=str(tmp_path)) as client:
        session_id = client.open()
        client.push(session_id, films[0][:10])
        client.events(session_id, until="step")
        monkeypatch.setattr("models.streaming.session_file.save_file", full_disk)
        answer = client.post(f"/sessions/{session_id}/save")
        assert answer.status_code == 507 and "full" in answer.json()["cause"], answer.text
        assert str(tmp_path) not in answer.text and "/srv" not in answer.text and "/srv" in caplog.text
    assert client.sessions.n_unsaved == 1


def test_realtime_survives_a_resume(nano_checkpoint, films, tmp_path):
    with serving(nano_checkpoint, save_dir=str(tmp_path)) as client:
        session_id = client.open(realtime=False)
        client.push(session_id, films[0][:10])
        client.events(session_id, until="step")
        client.post(f"/sessions/{session_id}/save")
        client.delete(f"/sessions/{session_id}", params={"keep_saved": True})
        assert client.post("/sessions", json={"resume": session_id}).json()["realtime"] is False
        client.delete(f"/sessions/{session_id}", params={"keep_saved": True})
        assert client.post("/sessions", json={"resume": session_id, "realtime": True}).json()["realtime"] is True


def test_a_client_that_breaks_off_is_one_line(client, caplog):
    session_id = client.open()
    host, port = client.base_url.host, client.base_url.port
    with socket.create_connection((host, port)) as half:
        head = f"POST /sessions/{session_id}/frames HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: image/jpeg\r\n"
        half.sendall(f"{head}Content-Length: 1000\r\n\r\nhalf".encode())
    until(lambda: caplog.records)
    assert client.get("/health").status_code == 200
    assert [record.message.partition(":")[0] for record in caplog.records] == ["a client broke off"]


@pytest.mark.parametrize(("host", "wanted"), [("127.0.0.1", "cannot listen there"), ("no.such.host.invalid", "--host")])
def test_a_port_in_use_is_told_before_the_model_is_loaded(host, wanted, tmp_path, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as used:
        address = ["--host", host, "--port", str(used.getsockname()[1])]
        for command in (serve, app):
            monkeypatch.setattr(sys, "argv", ["command", *address, "--model_name_or_path", str(tmp_path / "none")])
            with pytest.raises(UserError, match=wanted):
                command.main()
