"""demo/serve.py: which sources clients may name."""

import pytest
from PIL import Image

from demo.live.allowed_sources import AllowedSources
from demo.live.api_error import ApiError
from utils.errors import UserError


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
    with pytest.raises(ApiError) as refused:
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
        with pytest.raises(ApiError, match="403"):
            allowed.check(name)


@pytest.mark.parametrize("pattern", ["/", "no/such/folder", "ftp://x/"])
def test_a_list_that_cannot_be_meant_is_an_error(pattern):
    with pytest.raises(UserError):
        AllowedSources([pattern])
