"""demo/app.py under attack: whatever strangers name, send or guess, they get what is theirs or a word."""

import contextlib
import json
from http.client import HTTPConnection

import httpx2 as httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from demo.arguments import NANO_CHECKPOINT, NANO_MATCHES
from demo.web.options import PageArguments, ViewerArguments
from demo.web.page_auth import COOKIE
from demo.web.videos import shown_name
from models.load import load_checkpoint
from tests.browser import serving_page
from tests.videos import make_video
from tests.waiting import PATIENCE_S, until
from utils.errors import UserError
from utils.flag_values import check_values

FILM = NANO_MATCHES[0].read_bytes()
LOCAL = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
FAKES = {
    "empty": b"", "text": b"this is no video", "page": b"<html><script>alert(1)</script></html>", "playlist": LOCAL,
    "list of files": b"ffconcat version 1.0\nfile /etc/passwd\n", "header alone": FILM[:32],
    "broken": FILM[:600] + bytes(5000), "noise behind a header": b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 40,
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(64), "session description": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004",
}  # fmt: skip
CLOSED = (
    "/gradio_api/file=/etc/passwd", "/file=/etc/passwd", "/gradio_api/file/etc/passwd", "/file/etc/passwd",
    "/gradio_api/proxy=http://127.0.0.1:1/", "/proxy=http://127.0.0.1:1/", "/gradio_api/stream/x", "/docs",
    "/openapi.json", "/redoc", "/gradio_api/queue/data?session_hash=x", "/gradio_api/queue/status", "/monitoring",
    "/gradio_api/mcp/sse", "/gradio_api/mcp/", "/gradio_api/deep_link", "/login_check", "/token",
    "/gradio_api/vibe-edit", "/gradio_api/upload_progress?upload_id=1",
    "/custom_component/x/client/component/index.js",
    "/deep_link",
)  # fmt: skip
POSTED = (
    "/gradio_api/upload", "/upload", "/gradio_api/queue/join", "/gradio_api/run/predict", "/gradio_api/call/lambda",
    "/gradio_api/component_server", "/gradio_api/reset", "/gradio_api/cancel", "/login", "/", "/config",
)  # fmt: skip
OUTSIDE = (
    "/live/media/../../../../etc/passwd", "/live/media/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/live/media/%2Fetc%2Fpasswd",
    "/live/media/..%5c..%5cetc", "/live/static/../gate.py", "/live/static/%2e%2e/gate.py", "/live/static/..%2fgate.py",
    "/live/media/example1%00.mp4", "/assets/../../../../../../etc/passwd", "/assets/%2e%2e/%2e%2e/%2e%2e/utils.py",
    "/static/..%2f..%2f..%2futils.py", "/live/thumbnails/..%2f..%2fetc", "/live/viewers/..%2f../commentary.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(NANO_CHECKPOINT, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def server(checkpoint):
    with serving_page(checkpoint, max_upload_mb=1, max_minutes=0.2, examples=[str(NANO_MATCHES[0])]) as server:
        yield server


class Stranger(httpx.Client):
    """A browser that has loaded the page, and so has its cookie."""

    def __init__(self, server, **how):
        super().__init__(base_url=server.address, timeout=PATIENCE_S, **how)

    def __enter__(self):
        super().__enter__()
        self.get("/")
        return self

    @contextlib.contextmanager
    def tab(self, viewer: str | None = None):
        """A tab's WebSocket behind its welcome."""
        with self.connect() as socket:
            socket.send(json.dumps({"type": "hello", "viewer": viewer, "after": 0}))
            socket.welcome = json.loads(socket.recv(PATIENCE_S))
            yield socket

    def connect(self, **headers):
        cookies = {"Cookie": f"{COOKIE}={self.cookies[COOKIE]}"} if COOKIE in self.cookies else {}
        address = str(self.base_url).replace("http", "ws").rstrip("/")
        return connect(f"{address}/live/socket", additional_headers={**cookies, **headers})

    def upload(self, content, name: str = "film.mp4"):
        return self.post("/live/uploads", params={"name": name}, content=content)


@pytest.fixture(scope="module")
def stranger(server):
    with Stranger(server) as stranger:
        yield stranger


def heard(socket, kind: str) -> dict:
    """The next record of a type."""
    while (record := json.loads(socket.recv(PATIENCE_S)))["type"] != kind:
        pass
    return record


def n_uploads(server) -> int:
    return len(list(server.registry.videos.folder.iterdir()))


@pytest.mark.parametrize("path", [*CLOSED, *OUTSIDE])
def test_nothing_outside_is_read(stranger, path):
    url = stranger.base_url
    bare = HTTPConnection(url.host, url.port)  # sends a path as it is written
    bare.request("GET", path, headers={"Cookie": f"{COOKIE}={stranger.cookies[COOKIE]}"})
    answer = bare.getresponse()
    content = answer.read()
    bare.close()
    assert answer.status in (403, 404, 405) and b"root:" not in content and b"def " not in content


@pytest.mark.parametrize("path", POSTED)
def test_gradio_takes_nothing(stranger, server, path):
    answer = stranger.post(path, content=b"{}", headers={"Content-Type": "application/json"})
    assert answer.status_code in (403, 404, 405)
    assert n_uploads(server) == 0


@pytest.mark.parametrize("kind", FAKES)
def test_a_fake_video_is_refused_and_deleted(stranger, server, kind):
    answer = stranger.upload(FAKES[kind], f"{kind}.mp4")
    assert answer.status_code == 422 and n_uploads(server) == 0
    assert str(server.registry.videos.folder) not in answer.text and answer.json()["message"]


def test_a_video_that_is_too_large_or_too_long_is_refused(stranger, server, tmp_path):
    assert stranger.upload(bytes(2**20 + 1)).status_code == 413
    pieces = (bytes(2**16) for _ in range(20))  # of a length that is not stated
    answer = stranger.upload(pieces)
    assert answer.status_code == 413 and "1048576" in answer.text.replace("1 MB", "1048576")
    long = stranger.upload(make_video(tmp_path / "long.mp4", 30, size_hw=(64, 64), fps=2).read_bytes())
    assert long.status_code == 413 and "minutes" in long.json()["message"]
    assert n_uploads(server) == 0


def test_names_are_never_paths_nor_html(stranger, server, tmp_path):
    short = make_video(tmp_path / "short.mp4", 6, size_hw=(64, 64), fps=2).read_bytes()
    for name in (
        "../../../tmp/evil.mp4",
        "/etc/passwd",
        "C:\\x\\evil.mp4",
        "<script>alert(1)</script>.mp4",
        "\r\nX: y",
        "",
    ):
        answer = stranger.upload(short, name)
        video = answer.json()
        assert answer.status_code == 201 and "/" not in video["name"] and "\n" not in video["name"]
        assert answer.headers["content-type"] == "application/json"
        media = stranger.get(video["url"])
        assert media.content == short and media.headers["content-type"] == "video/mp4"
        assert media.headers["x-content-type-options"] == "nosniff" and "x" not in media.headers
        server.registry.videos.remove(server.registry.videos.get(video["id"], video_owner(server, video["id"])))
    assert n_uploads(server) == 0 and shown_name("a/b\\c\x00d\n.mp4") == "cd.mp4"


def video_owner(server, video_id: str) -> str:
    return server.registry.videos._videos[video_id].owner


def test_another_browser_sees_nothing_of_mine(server, stranger, tmp_path):
    short = make_video(tmp_path / "short.mp4", 6, size_hw=(64, 64), fps=2).read_bytes()
    video = stranger.upload(short).json()
    with Stranger(server) as other, stranger.tab() as mine:
        viewer = mine.welcome["viewer"]
        assert stranger.get(f"/live/viewers/{viewer}/commentary.json").status_code == 409  # mine, and nothing was said
        mine.send(json.dumps({"type": "open", "video": video["id"]}))
        assert heard(mine, "opened")["video"]["name"] == "film.mp4"
        unknown = other.get("/live/viewers/" + "0" * 32 + "/commentary.json")
        theirs = other.get(f"/live/viewers/{viewer}/commentary.json")
        assert theirs.status_code == unknown.status_code == 404
        assert theirs.text.replace(viewer, "") == unknown.text.replace("0" * 32, "")
        for path in (video["url"], video["poster"], f"/live/viewers/{viewer}/video.mp4"):
            assert other.get(path).status_code == 404
        with other.tab(viewer) as guest:
            assert not guest.welcome["resumed"] and guest.welcome["viewer"] != viewer
            guest.send(json.dumps({"type": "open", "video": video["id"]}))
            assert "is not here" in heard(guest, "refused")["message"]
        mine = stranger.cookies[COOKIE]
        for cookie in ("", "x", "a.b", mine[:-1] + ("1" if mine.endswith("0") else "0"), "é.é"):
            forged = httpx.get(server.address + video["url"], headers={"Cookie": f"{COOKIE}={cookie}".encode()})
            assert forged.status_code == 403
    until(lambda: not any(v.n_connected for v in server.registry.tabs.values()))


def test_each_tab_takes_home_its_own(server, stranger, tmp_path):
    """Two tabs of one browser; the name of the video is a stranger's, and becomes part of a header."""
    short = make_video(tmp_path / "short.mp4", 6, size_hw=(64, 64), fps=2).read_bytes()
    video = stranger.upload(short, 'Größe; x="<b>" 球 1.mp4').json()
    with stranger.tab() as first, stranger.tab() as second:
        first.send(json.dumps({"type": "open", "video": video["id"]}))
        second.send(json.dumps({"type": "open", "video": "example1"}))
        for tab, text in ((first, "Orange gewinnt."), (second, "Cyan win it <b>back</b>.")):
            heard(tab, "opened")
            server.registry.tabs[tab.welcome["viewer"]].history.add_step(0.0, 3.0, text)
        for tab, text, name in ((first, "Orange gewinnt.", "Gre" + "xb1"), (second, "Cyan win", "match_1")):
            for form in ("srt", "vtt", "txt", "json"):
                answer = stranger.get(f"/live/viewers/{tab.welcome['viewer']}/commentary.{form}")
                assert answer.status_code == 200 and text in answer.text
                assert ("Orange" in answer.text) != ("Cyan" in answer.text)
                assert answer.headers["content-disposition"] == f'attachment; filename="{name}.{form}"'
        assert stranger.get(f"/live/viewers/{first.welcome['viewer']}/commentary.exe").status_code == 404
    server.registry.videos.remove(server.registry.videos.get(video["id"], video_owner(server, video["id"])))


def test_other_pages_and_names_are_refused(server, stranger):
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert stranger.get("/live/media/example1", headers=headers).status_code == 403
    with pytest.raises(InvalidStatus, match="403"), stranger.connect(Origin="http://evil.example"):
        pass
    with Stranger(server) as fresh:
        fresh.cookies.clear()
        with pytest.raises(InvalidStatus, match="403"), fresh.connect():
            pass
        assert fresh.get("/live/media/example1").status_code == 403
    page = stranger.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "http" not in policy and "frame-ancestors 'none'" in policy
    assert "HttpOnly" in httpx.get(server.address).headers["set-cookie"]


def test_only_addresses_on_the_list_are_opened(stranger):
    with stranger.tab() as tab:
        for url in (
            "file:///etc/passwd", "/etc/passwd", "camera:0", "lavfi:testsrc2", "-", "http://169.254.169.254/latest/",
            "http://127.0.0.1:7860/", "concat:/etc/passwd|/etc/hosts", "gopher://x/", "http://[::1", 5, None, "",
        ):  # fmt: skip
            tab.send(json.dumps({"type": "open", "url": url} if url is not None else {"type": "open", "video": 7}))
            assert heard(tab, "refused")["message"]


def test_messages_that_make_no_sense_are_refused_and_the_tab_goes_on(stranger):
    junk = [
        "", "x", "[1]", "[" * 5000, json.dumps({"type": "x"}), json.dumps({"type": ["play"]}), '{"type": "play"}',
        '{"type": "play", "time_s": NaN}', '{"type": "seek", "time_s": -1}', '{"type": "time", "time_s": true}',
        '{"type": "play", "time_s": 0, "rate": "fast"}', '{"type": "play", "time_s": 0}', '{"type": "ask"}',
        json.dumps({"type": "ask", "question": "x" * 10**5}),
        json.dumps({"type": "settings", "settings": {"query": 5}}),
        json.dumps({"type": "settings", "settings": {"eagerness": "<b>"}}), '{"type": "render"}',
        json.dumps({"type": "settings", "settings": {"query": "x" * 501}}), '{"type": "settings", "settings": []}',
    ]  # fmt: skip
    with stranger.tab() as tab:
        for message in junk:
            tab.send(message)
            refusal = heard(tab, "refused")["message"]
            assert refusal and len(refusal) < 500
        tab.send(json.dumps({"type": "settings", "settings": {"query": "<script>alert(1)</script>"}}))
        tab.send(json.dumps({"type": "open", "video": "example1"}))
        assert heard(tab, "opened")["video"]["id"] == "example1"
        tab.send(json.dumps({"type": "open", "webcam": True}))
        tab.send(json.dumps({"type": "play", "time_s": 0}))
        heard(tab, "started")
        tab.send(b"no JPEG")
        assert "JPEG" in heard(tab, "refused")["message"]


def test_a_password_is_asked_for_once(checkpoint):
    with serving_page(checkpoint, auth="coach:half time") as server:
        assert httpx.get(server.address).status_code == 401
        for path in ("/live/media/example1", "/live/static/app.js", "/config", "/theme.css"):
            assert httpx.get(server.address + path).status_code == 401
        assert httpx.get(server.address, auth=("coach", "full time")).status_code == 401
        with Stranger(server, auth=("coach", "half time")) as known:
            known.auth = None  # from now on the cookie is enough: browsers do not send passwords with WebSockets
            assert known.get("/live/media/example1").status_code == 200
            with known.tab() as tab:
                assert tab.welcome["type"] == "welcome"


def test_flags_that_cannot_work_are_refused(tmp_path):
    (tmp_path / "auth").write_text("nobody")
    for arguments in (
        PageArguments(auth="x"), PageArguments(auth="user:abc"), PageArguments(auth_file=str(tmp_path / "auth")),
        PageArguments(auth_file=str(tmp_path / "none")), PageArguments(port=70000), ViewerArguments(max_sessions=0),
        ViewerArguments(allow_urls=["/etc"]), ViewerArguments(allow_urls=["file:///"]), ViewerArguments(idle_minutes=0),
    ):  # fmt: skip
        with pytest.raises(UserError):  # as a command does: each value by itself, then what belongs together
            check_values(arguments)
            arguments.check()
