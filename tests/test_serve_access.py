"""demo/serve.py: who is let in."""

import json

import pytest
import yaml
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from demo.app import check_page
from demo.arguments import MemoryArguments
from demo.live.engine import StreamEngineArguments
from demo.serve import ListenArguments, check_server
from demo.server.options import ServerOptions
from demo.web.options import PageArguments, ViewerArguments
from tests.conftest import REPOSITORY
from tests.serving import PATIENCE_S, serving, socket_url
from utils.errors import UserError

TOKEN = "a token for tests"


@pytest.fixture(scope="module")
def client(nano_checkpoint):
    with serving(nano_checkpoint) as client:
        yield client


@pytest.fixture(scope="module")
def guarded(nano_checkpoint):
    with serving(nano_checkpoint, token=TOKEN) as client:
        yield client


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/openapi.json", "/sessions/x", f"/metrics?token={TOKEN}"])
@pytest.mark.parametrize("header", ["", "Bearer wrong", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}s", f"Basic {TOKEN}"])
def test_without_the_token_nothing_is_served(guarded, path, header):
    answer = guarded.get(path, headers={"Authorization": header} if header else {})
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
    wrong = [json.dumps({"type": "auth", "token": token}) for token in ("wrong", TOKEN[:-1], f"{TOKEN}s", "")]
    for first in (*wrong, '{"type": "end"}', "junk"):
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


def test_by_default_only_this_machine_is_served(capsys):
    listening, page = ListenArguments(), PageArguments()
    assert listening.host == page.host == "127.0.0.1" and not page.share and ServerOptions().allow_source == []
    config = yaml.safe_load((REPOSITORY / "scripts" / "ray_serve.yaml").read_text())
    assert config["http_options"]["host"] == "127.0.0.1"
    check_server(listening, StreamEngineArguments(), MemoryArguments(), ServerOptions())
    check_page(page, StreamEngineArguments(), ViewerArguments())
    assert not capsys.readouterr().err


def test_a_door_that_is_left_open_is_warned_of(capsys):
    everywhere = ListenArguments(host="0.0.0.0")
    check_server(everywhere, StreamEngineArguments(), MemoryArguments(), ServerOptions())
    assert "everybody who reaches 0.0.0.0 can use this server" in capsys.readouterr().err
    check_server(everywhere, StreamEngineArguments(), MemoryArguments(), ServerOptions(token=TOKEN))
    assert not capsys.readouterr().err
    for page, where in ((PageArguments(host="0.0.0.0"), "0.0.0.0"), (PageArguments(share=True), "the public address")):
        check_page(page, StreamEngineArguments(), ViewerArguments())
        assert f"everybody who reaches {where} can use this page" in capsys.readouterr().err
        page.auth = "coach:half time"
        check_page(page, StreamEngineArguments(), ViewerArguments())
        assert not capsys.readouterr().err


@pytest.mark.parametrize("bad", [{"token": "short"}, {"token": "has a \n in it"}, {"token_file": "none"}])
def test_a_token_that_cannot_work_is_an_error(bad):
    with pytest.raises(UserError, match="token"):
        ServerOptions(**bad).secret()
