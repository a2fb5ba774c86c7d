"""demo/serve.py: who is let in, and to what."""

import json

import pytest
import yaml
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from demo.app import check as check_page
from demo.cli import MemoryArguments
from demo.engine import EngineArguments
from demo.serve import ListenArguments
from demo.serve import check as check_server
from demo.server.allowed_sources import AllowedSources
from demo.server.options import ServerOptions
from demo.server.refusal import Refusal
from demo.web.options import PageArguments, ViewerArguments
from tests.conftest import REPOSITORY
from tests.serving import PATIENCE_S, serving, socket_url
from utils.errors import UserError

TOKEN = "a token for tests"


@pytest.fixture(scope="module")
def client(nano_checkpoint):
    with serving(nano_checkpoint) as client:
        yield client


# who


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
    check_server(listening, EngineArguments(), MemoryArguments(), ServerOptions())
    check_page(page, EngineArguments(), ViewerArguments())
    assert not capsys.readouterr().err


def test_a_door_that_is_left_open_is_warned_of(capsys):
    everywhere = ListenArguments(host="0.0.0.0")
    check_server(everywhere, EngineArguments(), MemoryArguments(), ServerOptions())
    assert "everybody who reaches 0.0.0.0 can use this server" in capsys.readouterr().err
    check_server(everywhere, EngineArguments(), MemoryArguments(), ServerOptions(token=TOKEN))
    assert not capsys.readouterr().err
    for page, where in ((PageArguments(host="0.0.0.0"), "0.0.0.0"), (PageArguments(share=True), "the public address")):
        check_page(page, EngineArguments(), ViewerArguments())
        assert f"everybody who reaches {where} can use this page" in capsys.readouterr().err
        page.auth = "coach:half time"
        check_page(page, EngineArguments(), ViewerArguments())
        assert not capsys.readouterr().err


# to what


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
