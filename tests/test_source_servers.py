"""Sources on servers: reconnection, stalls, and what a playlist must not open."""

import contextlib
import io
import itertools
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from data.sources.catalogue import open_source
from data.sources.reconnection import Reconnection
from data.video.container import VideoError
from tests import rtsp_server
from tests.sources import LIMITS, QUICK, Served, events_of, make_served, send, times_of, wait_until
from tests.videos import frame_number, make_video, numbered_frame
from tests.waiting import PATIENCE_S


def jpeg_of(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(numbered_frame(number, 72, 160)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("served"))


def test_an_http_file_ends(folder):
    with Served(folder) as served:
        source = open_source(served.url("two.ts"), limits=LIMITS, reconnection=QUICK)
        got = list(source)
    assert times_of(got) == [0, 0.5, 1, 1.5] and events_of(source) == []
    assert [frame_number(item.frame) for item in got] == [0, 12, 25, 37]


def test_an_hls_playlist_ends(folder):
    with Served(folder) as served:
        source = open_source(served.url("list.m3u8"), limits=LIMITS, reconnection=QUICK)
        got = list(source)
    assert times_of(got) == [0, 0.5, 1, 1.5] and events_of(source) == []
    assert [frame_number(item.frame) for item in got] == [0, 12, 25, 37]


@pytest.mark.parametrize("has_end", [False, True])
def test_an_hls_server_that_dies_and_comes_back(folder, has_end):
    """FFmpeg reports the end of a playlist in order then, which it is not."""
    text = (folder / "list.m3u8").read_text()
    live = text.partition("#EXTINF")[0].replace("#EXT-X-PLAYLIST-TYPE:VOD\n", "")
    live += "".join(f"#EXTINF:0.4,\nlist{n}.ts\n" for n in range(2))
    first = {"/a.m3u8": lambda handler, _: send(handler, (text if has_end else live).encode())}
    for segment in ("/list2.ts", "/list3.ts", "/list4.ts"):
        first[segment] = lambda handler, _: handler.send_error(503)
    again = {"/a.m3u8": lambda handler, _: send(handler, text.encode())}
    with Served(folder, first) as served:
        port = served.server.server_port
        source = open_source(served.url("a.m3u8"), limits=LIMITS, reconnection=QUICK)
        got = [source.next_frame(PATIENCE_S)]
        wait_until(lambda: served.asked.count("/a.m3u8") > 1 or "/list4.ts" in served.asked)
    with Served(folder, again, port):
        got += list(source)
    told = events_of(source)
    assert told[0].startswith("lost: the stream ended") and told[-1].startswith("back after "), told
    times = times_of(got)
    assert times == sorted(set(times)) and frame_number(got[-1].frame) >= 37


def test_the_first_opening_fails_at_once(folder):
    with Served(folder) as served:
        with pytest.raises(VideoError, match=r"none\.mp4: .*404.*; check that it is there"):
            list(open_source(served.url("none.mp4"), limits=LIMITS))
        closed = served.url("two.mp4")
    with pytest.raises(VideoError, match="refused"):
        list(open_source(closed, limits=LIMITS))


def test_a_server_that_says_nothing(folder):
    given_up = threading.Event()
    with Served(folder, {"/silent": lambda *_: given_up.wait(PATIENCE_S)}) as served:
        with pytest.raises(VideoError, match=r"nothing arrived for 0\.5 s"):
            list(open_source(served.url("silent"), limits=LIMITS, reconnection=Reconnection(stall_s=0.5)))
        assert served.asked == ["/silent"]
        given_up.set()


def test_a_file_that_breaks_off_is_taken_up_where_it_was_left(folder):
    body = (folder / "two.mp4").read_bytes()

    def answer(handler, count):
        send(handler, body[: len(body) // 2] if count == 1 else body, len(body))

    with Served(folder, {"/film": answer}) as served:
        source = open_source(served.url("film"), limits=LIMITS, reconnection=QUICK)
        got = list(source)
    times, numbers = times_of(got), [frame_number(item.frame) for item in got]
    assert times == sorted(set(times)) and numbers == sorted(set(numbers)) and numbers[-1] >= 37
    lost, back = events_of(source)
    assert lost == "lost: Input/output error; trying again in 0.1 s" and back.startswith("back after 0.")


def test_a_stalled_stream_is_opened_again_and_its_times_go_on(folder):
    body, given_up = (folder / "two.ts").read_bytes(), threading.Event()

    def answer(handler, count):
        send(handler, body[: len(body) * 2 // 3] if count == 1 else body, len(body))
        if count == 1:
            given_up.wait(PATIENCE_S)  # it says nothing more, and does not hang up either
        else:
            given_up.set()

    with Served(folder, {"/live": answer}) as served:
        reconnection = Reconnection(stall_s=2.0, first_wait_s=0.1)  # under which a busy machine is not taken for one
        source = open_source(served.url("live"), limits=LIMITS, reconnection=reconnection)
        got = list(source)
    lost, back = events_of(source)
    assert lost == "lost: nothing arrived for 2 s; trying again in 0.1 s"
    gap_s = float(back.split()[2])
    times = times_of(got)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gap_s >= 2.1 and all((t * 2).is_integer() for t in times)
    assert sum(gap > 0.5 for gap in gaps) == 1, "one hole, no frozen picture in it"
    assert max(gaps) >= 1.0


def test_a_server_that_dies_and_comes_back(folder):
    body = (folder / "two.ts").read_bytes()

    def cut(handler, _):
        send(handler, body[: len(body) // 2], len(body))

    with Served(folder, {"/live": cut}) as served:
        port = served.server.server_port
        source = open_source(served.url("live"), limits=LIMITS, reconnection=QUICK)
        frames = iter(source)
        got = [next(frames)]
    wait_until(lambda: source.events.qsize() >= 2)
    with Served(folder, {"/live": lambda handler, _: send(handler, body)}, port):
        got += list(frames)
    told = events_of(source)
    assert told[0].startswith("lost: ") and "refused" in told[1] and told[-1].startswith("back after ")
    times = times_of(got)
    assert times == sorted(set(times)) and times[-1] > 1.5


def test_the_last_retry(folder):
    body = (folder / "two.ts").read_bytes()

    def answer(handler, count):
        if count == 1:
            send(handler, body[: len(body) // 2], len(body))
        else:
            handler.send_error(503)

    twice = Reconnection(first_wait_s=0.05, max_retries=2)
    with Served(folder, {"/live": answer}) as served:
        source = open_source(served.url("live"), limits=LIMITS, reconnection=twice)
        frames = iter(source)
        next(frames)
        with pytest.raises(VideoError, match=r"lost for good at .* s, after 2 retries: Server returned 5XX"):
            list(frames)
        assert served.asked.count("/live") == 3 and len(events_of(source)) == 2


@pytest.mark.parametrize("where", ["file://{folder}/two.ts", "{folder}/two.ts", "concat:{folder}/two.ts"])
def test_a_playlist_from_a_server_opens_no_local_file(folder, tmp_path, where):
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:2,", where.format(folder=folder), "#EXT-X-ENDLIST"]
    (tmp_path / "evil.m3u8").write_text("\n".join(lines) + "\n")
    with Served(tmp_path) as served, pytest.raises(VideoError):
        list(open_source(served.url("evil.m3u8"), limits=LIMITS, reconnection=QUICK))


def test_a_local_playlist_opens_no_server(folder, tmp_path):
    with Served(folder) as served:
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:2,", served.url("two.ts"), "#EXT-X-ENDLIST"]
        (tmp_path / "local.m3u8").write_text("\n".join(lines) + "\n")
        with pytest.raises(VideoError):
            list(open_source(str(tmp_path / "local.m3u8"), limits=LIMITS))
        assert served.asked == []


# RTSP, with GStreamer's server where Debian's packages for it are installed


@contextlib.contextmanager
def serving_rtsp(path: Path, port: int) -> Iterator[None]:
    words = [rtsp_server.PYTHON, rtsp_server.__file__, str(path), str(port)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


@pytest.mark.skipif(not rtsp_server.is_installed(), reason="tests/rtsp_server.py needs gir1.2-gst-rtsp-server-1.0")
def test_rtsp_survives_its_server(tmp_path):
    video = make_video(tmp_path / "match.mp4", 125, b_frames=0, gop=25)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    reconnection = Reconnection(stall_s=3, first_wait_s=0.2, longest_wait_s=0.4)
    source = open_source(f"rtsp://127.0.0.1:{port}/match", limits=LIMITS, reconnection=reconnection)
    frames = iter(source)
    with source:
        with serving_rtsp(video, port):
            before = [next(frames) for _ in range(4)]
        wait_until(lambda: source.events.qsize() >= 2)
        with serving_rtsp(video, port):
            # What was waiting when the server died comes first.
            after = [next(frames) for _ in range(6)]
    assert [frame_number(item.frame) for item in before] == [0, 12, 25, 37]
    told = events_of(source)
    assert told[0].startswith("lost: ") and told[-1].startswith("back after ")
    times = times_of(before + after)
    assert times == sorted(set(times)) and sum(b - a > 0.5 for a, b in itertools.pairwise(times)) == 1


@pytest.mark.parametrize(("fps", "n_frames"), [(2.5, 8), (10, 25)])
def test_a_camera_without_a_clock(fps, n_frames):
    """MJPEG in a multipart answer, whose pictures have no times: FFmpeg would count 25 a second, whatever comes."""

    def answer(handler, _) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=naechstes")
        handler.end_headers()
        for number in range(n_frames):
            data = jpeg_of(number)
            head = f"--naechstes\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            handler.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(1 / fps)

    with Served(Path("."), {"/kamera": answer}) as served:
        source = open_source(served.url("kamera"), limits=LIMITS, reconnection=QUICK)
        got = [source.next_frame(PATIENCE_S) for _ in range(int(n_frames / fps * 2) - 1)]
        source.close()
    # Each picture took at least 1 / fps to come; those that FFmpeg looks at before it begins come at once.
    numbers, lasted_s = [frame_number(item.frame) for item in got], times_of(got)[-1]
    assert numbers == sorted(numbers) and times_of(got) == [n / 2 for n in range(len(got))]
    first_timed = next(number for number in numbers if number > 0)
    assert lasted_s > (numbers[-1] - first_timed - 1) / fps - 1
