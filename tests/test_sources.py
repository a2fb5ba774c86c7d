"""Live and stored sources: kinds, times, reconnection, stalls, and what untrusted input must not open."""

import contextlib
import itertools
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from data.container import VideoError
from data.frame_plan import VideoLimits
from data.live import FrameMaker, live_frames
from data.sources.catalogue import open_source
from data.sources.pipe import open_pipe
from data.sources.reconnection import Reconnection
from data.sources.source import Source
from data.sources.spec import FORMS, NO_PROTOCOL, _camera, parse_spec
from data.sources.stream import N_HELD, StreamSource
from data.sources.timeline import Grid, Placed, Timeline
from demo.cli import (
    MemoryArguments,
    ModelArguments,
    OutputArguments,
    SourceArguments,
    SpeechArguments,
    check,
    open_stream,
)
from demo.viewing import Viewing
from tests import rtsp_server
from tests.conftest import REPOSITORY
from tests.test_cli import FakeSession, RecordingView, command
from tests.videos import frame_number, make_faststart, make_video
from utils.errors import UserError

LIMITS = VideoLimits(min_pixels=784, max_pixels=16 * 784)
# Long enough that a busy machine is not taken for a stalled server.
QUICK = Reconnection(stall_s=5, first_wait_s=0.1, longest_wait_s=0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """two.mp4 and two.ts: two seconds at 25 frames a second; an HLS playlist of the same with its segments."""
    folder = tmp_path_factory.mktemp("served")
    make_faststart(folder / "two.mp4", n_frames=50, gop=10, b_frames=0)
    make_video(folder / "two.ts", 50, gop=10, b_frames=0)
    hls = {"hls_time": "0.4", "hls_playlist_type": "vod", "hls_list_size": "0"}
    make_video(folder / "list.m3u8", 50, gop=10, b_frames=0, container_options=hls)
    return folder


Answer = Callable[[BaseHTTPRequestHandler, int], None]


class Served:
    """A web server on the loopback: a folder, and paths that a function answers (its argument: the count of calls)."""

    def __init__(self, folder: Path, answers: dict[str, Answer] | None = None, port: int = 0):
        self.asked: list[str] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked.append(self.path)
                answer = (answers or {}).get(self.path)
                with contextlib.suppress(OSError):
                    if answer:
                        answer(self, served.asked.count(self.path))
                    elif (folder / self.path[1:]).is_file():
                        send(self, (folder / self.path[1:]).read_bytes())
                    else:
                        self.send_error(404)

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{path}"

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()


def send(handler: BaseHTTPRequestHandler, body: bytes, length: int | None = None) -> None:
    """Answer with a body that is said to be `length` bytes long."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def times_of(frames) -> list[float]:
    return [frame.time_s for frame in frames]


def events_of(source: Source) -> list[str]:
    return [source.events.get() for _ in range(source.events.qsize())]


def test_specs_name_kinds(tmp_path):
    video = make_video(tmp_path / "a.mp4", 2)
    assert parse_spec(str(video)).kind == "file" and parse_spec(str(tmp_path)).kind == "images"
    assert parse_spec("-").kind == "pipe" and parse_spec("lavfi:testsrc2=rate=5,scale=64:48").kind == "lavfi"
    raw = parse_spec("raw:640x480@30000/1001:nv12")
    assert raw.format == "rawvideo" and raw.options["framerate"] == "30000/1001"
    url = parse_spec("rtsp://me:secret@cam.example:554/live?x=1")
    assert url.name == "rtsp://me:***@cam.example:554/live?x=1" and "secret" in url.address
    for scheme in ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps"):
        allowed = parse_spec(f"{scheme}://host/path").options["protocol_whitelist"].split(",")
        assert not {"file", "concat", "subfile", "pipe", "fd", "unix"} & set(allowed)
    mac, windows = _camera("camera:0", "darwin"), _camera("camera:USB cam", "win32")
    assert (mac.format, mac.address) == ("avfoundation", "0")
    assert (windows.format, windows.address) == ("dshow", "video=USB cam")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("", "no such file or folder"),
        ("none.mp4", FORMS),
        ("ftp://host/a.mp4", "known are http://"),
        ("file:///etc/passwd", "without file://"),
        ("http:///a.mp4", "names no server"),
        ("http://host:port/a", "no URL"),
        ("raw:640x480", "raw:640x480@30"),
        ("raw:0x480@30", "above 0"),
        ("raw:4x4@30:jpeg", "known are rgb24"),
        ("camera:", "names no camera"),
        ("camera:77", "cameras here:"),
        ("/dev/null/x", "no such camera"),
        ("lavfi:movie=/etc/passwd", "filter 'movie' is not allowed"),
        ("lavfi:testsrc2[a];movie=a.mp4,scale=4:4[b]", "filter 'movie'"),
    ],
)
def test_bad_specs_are_one_message(spec, expected):
    with pytest.raises(UserError) as caught:
        parse_spec(spec)
    assert expected in str(caught.value) and str(caught.value).startswith(spec or "''")


def test_options_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="use grid"):
        open_source("lavfi:testsrc2", limits=LIMITS, frame_times="end32")
    with pytest.raises(UserError, match="starts now"):
        open_source("lavfi:testsrc2", limits=LIMITS, start_s=5)
    with pytest.raises(UserError, match="stall_s 0"):
        Reconnection(stall_s=0)
    with pytest.raises(UserError, match="max_retries -1"):
        Reconnection(max_retries=-1)


def test_waits_double_up_to_the_longest():
    assert [Reconnection().wait_s(n) for n in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert Reconnection().wait_s(10**6) == 30


def test_a_file_comes_as_live_frames_does(folder):
    source = open_source(str(folder / "two.mp4"), limits=LIMITS, start_s=0.5)
    expected = list(live_frames(folder / "two.mp4", limits=LIMITS, start_s=0.5))
    got = list(source)
    assert not source.is_live and times_of(got) == times_of(expected) == [0.5, 1.0, 1.5]
    assert all(torch.equal(a.frame, b.frame) for a, b in zip(got, expected, strict=True))
    source = open_source(str(folder / "two.mp4"), limits=LIMITS)
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []


# -- a folder of images


def write_images(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        Image.fromarray(np.full((40, 60, 3), 20 * number, np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def levels(frames) -> list[int]:
    return [round(float(item.frame.float().mean()) / 20) for item in frames]


def test_images_come_in_natural_order(tmp_path):
    write_images(tmp_path, ["a1.png", "a2.PNG", "a10.png", "b.png"])
    got = list(open_source(str(tmp_path), limits=LIMITS))
    assert levels(got) == [0, 1, 2, 3] and times_of(got) == [0, 0.5, 1, 1.5]
    assert got[0].frame.dtype == torch.uint8 and got[0].frame.shape[1] % 28 == got[0].frame.shape[2] % 28 == 0
    assert levels(open_source(str(tmp_path), limits=LIMITS, images_fps=1)) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert levels(open_source(str(tmp_path), limits=LIMITS, images_fps=4)) == [0, 2]
    later = list(open_source(str(tmp_path), limits=LIMITS, start_s=1))
    assert levels(later) == [2, 3] and times_of(later) == [1, 1.5]


def test_images_of_another_size_take_the_first_ones(tmp_path):
    write_images(tmp_path, ["1.png"])
    Image.new("RGB", (33, 90)).save(tmp_path / "2.png")
    first, second = open_source(str(tmp_path), limits=LIMITS)
    assert first.frame.shape == second.frame.shape


def test_images_that_cannot_be_read(tmp_path):
    with pytest.raises(VideoError, match="holds no image"):
        open_source(str(tmp_path), limits=LIMITS)
    write_images(tmp_path, ["1.png"])
    (tmp_path / "2.jpg").write_bytes(b"no image at all")
    frames = iter(open_source(str(tmp_path), limits=LIMITS))
    next(frames)
    with pytest.raises(VideoError, match=r"2\.jpg: cannot be read as an image"):
        next(frames)
    with pytest.raises(VideoError, match="last 1 s; start earlier"):
        list(open_source(str(tmp_path), limits=LIMITS, start_s=9))


# -- times: pure arithmetic, no clock


class Arrivals:
    """Feeds a timeline and a grid by hand."""

    def __init__(self):
        self.timeline, self.grid, self.given = Timeline(), Grid(), []

    def add(self, stamp_s, now_s, idle_s=None, lasts_s=0.25) -> Placed:
        placed = self.timeline.place(stamp_s, lasts_s, now_s, now_s if idle_s is None else idle_s)
        self.given += self.grid.add(stamp_s, placed, lasts_s)
        return placed

    def lose(self) -> None:
        self.given += self.grid.end()
        self.timeline.disconnect()

    def times(self) -> list[float]:
        return [time_s for time_s, _ in self.given + self.grid.end()]


def test_stamps_set_the_distance_of_frames_not_the_network():
    arrivals = Arrivals()
    jitter = [0, 0.3, -0.1, 0.6, 0.2, 0, 0.4, 0.1]
    placed = [arrivals.add(100 + n / 4, max(0, n / 4 + late)) for n, late in enumerate(jitter)]
    assert [p.time_s for p in placed] == [n / 4 for n in range(8)] and all(p.joined for p in placed[1:])
    assert arrivals.times() == [0, 0.5, 1.0, 1.5]


def test_after_an_interruption_times_have_really_passed():
    arrivals = Arrivals()
    for n in range(5):
        arrivals.add(50 + n / 4, n / 4)
    arrivals.lose()  # the last picture was on screen until 1.25 s
    for n in range(5):
        arrivals.add(n / 4, 8.5 + n / 4)  # stamps begin anew
    assert arrivals.times() == [0, 0.5, 1.0, 8.5, 9.0, 9.5]


@pytest.mark.parametrize("stamp_s", [-95.0, 0.0, 0.75, 95000.0])
def test_stamps_that_jump_are_anchored_again(stamp_s):
    arrivals = Arrivals()
    for n in range(4):
        arrivals.add(n / 4, n / 4)
    placed = [arrivals.add(stamp_s + n / 4, 1.1 + n / 4) for n in range(6)]
    assert not placed[0].joined and placed[0].time_s == 1.1
    assert [round(p.time_s, 9) for p in placed] == [round(1.1 + n / 4, 9) for n in range(6)]
    assert arrivals.times() == [0, 0.5, 1.0, 1.5, 2.0, 2.5], "a short break is bridged with the picture before it"


def test_a_burst_after_a_stall_keeps_its_stamps():
    arrivals = Arrivals()
    arrivals.add(0, 0)
    placed = [arrivals.add(n / 4, 6.0) for n in range(1, 24)]  # what was held up comes at once
    assert all(p.joined for p in placed) and placed[-1].time_s == 23 / 4


def test_a_stream_that_paused_is_anchored_again():
    arrivals = Arrivals()
    arrivals.add(0, 0)
    placed = [arrivals.add(n / 4, 6 + n / 4) for n in range(1, 24)]  # six seconds late, and stays so
    broken = [p for p in placed if not p.joined]
    assert len(broken) == 1 and broken[0].time_s == 8.25 and placed[-1].time_s == 6 + 23 / 4
    times = arrivals.times()
    assert times == sorted(set(times)) and 4.0 not in times


def test_our_own_slowness_does_not_move_times():
    arrivals = Arrivals()
    placed = [arrivals.add(n / 4, n, idle_s=0.0) for n in range(40)]  # late because nobody takes the frames
    assert [p.time_s for p in placed] == [n / 4 for n in range(40)]


def test_frames_without_stamps_follow_each_other():
    arrivals = Arrivals()
    assert [arrivals.add(None, n / 10, idle_s=0.0).time_s for n in range(5)] == [0, 0.25, 0.5, 0.75, 1.0]


def test_times_rise_whatever_comes():
    numbers = np.random.default_rng(0)
    arrivals, now_s, last_s = Arrivals(), 0.0, -1.0
    for _ in range(3000):
        now_s += float(numbers.exponential(0.2))
        stamp = None if numbers.random() < 0.05 else float(numbers.choice([now_s, now_s - 3, numbers.normal(0, 1e4)]))
        if numbers.random() < 0.02:
            arrivals.lose()
        placed = arrivals.add(stamp, now_s, idle_s=now_s / 2)
        assert placed.time_s > last_s
        last_s = placed.time_s
    times = arrivals.times()
    assert all(a < b and (a * 2).is_integer() for a, b in itertools.pairwise(times))


# -- a source that keeps its own time


def test_a_drawn_picture_is_paced():
    source = open_source("lavfi:testsrc2=size=64x48:rate=25:duration=1.2", limits=LIMITS)
    assert source.is_live and source.now() == 0
    started, arrived = time.monotonic(), []
    for frame in source:
        arrived.append(source.now() - frame.time_s)
    assert len(arrived) == 3 and time.monotonic() - started >= 1.0
    assert all(0 <= late < 2 for late in arrived) and source.has_ended


def test_close_ends_an_iteration():
    source = open_source("lavfi:testsrc2=size=64x48:rate=25", limits=LIMITS)
    frames = iter(source)
    next(frames)
    threading.Timer(0.1, source.close).start()
    started = time.monotonic()
    assert len(list(frames)) <= 2 and time.monotonic() - started < 1
    assert list(source) == []


def unpaced(connect: Callable) -> StreamSource:
    """A source that is read as fast as it comes, by a clock that stands still."""
    maker = FrameMaker("unpaced", LIMITS, False)
    return StreamSource("unpaced", connect, maker, QUICK, eof_is_end=True, paces=False, monotonic=lambda: 7.0)


def test_the_oldest_frames_are_dropped_and_counted():
    # 40 s of picture that come at once
    source = unpaced(lambda _: av.open("testsrc2=size=64x48:rate=5:duration=40", format="lavfi"))
    source.next_frame(5)  # the first one, unless this thread was late
    wait_until(lambda: source._over)
    rest = list(source)
    assert len(rest) == N_HELD and rest[-1].time_s == 39.5
    assert source.n_dropped == 80 - 1 - N_HELD


def wait_until(done: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)


def test_wrapped_stamps_in_a_real_stream(tmp_path):
    """MPEG-TS whose stamps jump back by five seconds half-way: two recordings one after the other."""
    path = tmp_path / "joined.ts"
    make_video(tmp_path / "later.ts", 25, start_s=5.0, b_frames=0)
    make_video(tmp_path / "sooner.ts", 25, b_frames=0)
    path.write_bytes((tmp_path / "later.ts").read_bytes() + (tmp_path / "sooner.ts").read_bytes())
    got = list(unpaced(lambda _: av.open(str(path))))
    assert times_of(got) == [0, 0.5, 1.0, 1.5]
    numbers = [frame_number(item.frame) for item in got]
    assert numbers in ([0, 12, 0, 12], [0, 12, 0, 13])  # by how long the file says that its last frame lasts


# -- URLs


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
        got = [source.next_frame(10)]
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
    def stall(handler, _):
        time.sleep(3)

    with Served(folder, {"/silent": stall}) as served:
        started = time.monotonic()
        with pytest.raises(VideoError, match=r"nothing arrived for 0\.5 s"):
            list(open_source(served.url("silent"), limits=LIMITS, reconnection=Reconnection(stall_s=0.5)))
        assert time.monotonic() - started < 2


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
    body = (folder / "two.ts").read_bytes()

    def answer(handler, count):
        send(handler, body[: len(body) * 2 // 3] if count == 1 else body, len(body))
        time.sleep(5 if count == 1 else 0)

    with Served(folder, {"/live": answer}) as served:
        reconnection = Reconnection(stall_s=1.0, first_wait_s=0.1)
        source = open_source(served.url("live"), limits=LIMITS, reconnection=reconnection)
        got = list(source)
    lost, back = events_of(source)
    assert lost == "lost: nothing arrived for 1 s; trying again in 0.1 s"
    gap_s = float(back.split()[2])
    times = times_of(got)
    gaps = [b - a for a, b in itertools.pairwise(times)]
    assert gap_s >= 1.1 and all((t * 2).is_integer() for t in times)
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


# -- standard input


@contextlib.contextmanager
def piped(spec: str = "-") -> Iterator[tuple[StreamSource, int]]:
    """A source that reads a pipe, and the descriptor to write to."""
    reading, writing = os.pipe()
    source = open_pipe(parse_spec(spec), FrameMaker(spec, LIMITS, False), QUICK, reading)
    try:
        yield source, writing
    finally:
        source.close()
        with contextlib.suppress(OSError):
            os.close(writing)


def write_all(descriptor: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
    os.close(descriptor)


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_a_pipe_drops_nothing(tmp_path, suffix):
    data = make_video(tmp_path / f"a.{suffix}", 500, size_hw=(56, 112)).read_bytes()
    with piped() as (source, writing):
        threading.Thread(target=write_all, args=(writing, data), daemon=True).start()
        frames = iter(source)
        got = [next(frames)]
        time.sleep(0.3)  # the reader fills its memory and waits
        got += list(frames)
    assert times_of(got) == [n / 2 for n in range(40)] and source.n_dropped == 0
    assert [frame_number(item.frame) for item in got] == [n * 25 // 2 for n in range(40)]


def test_bare_frames(tmp_path):
    frames = [np.full((28, 56, 3), n, np.uint8) for n in range(11)]
    with piped("raw:56x28@4:rgb24") as (source, writing):
        write_all(writing, b"".join(frame.tobytes() for frame in frames))
        got = list(source)
    assert times_of(got) == [0, 0.5, 1, 1.5, 2, 2.5]
    assert [int(item.frame[0, 0, 0]) for item in got] == [0, 2, 4, 6, 8, 10]


def test_a_pipe_that_waits_can_be_closed():
    with piped() as (source, _):
        assert source.next_frame(0.2) is None and not source.has_ended
        started = time.monotonic()
        source.close()
        assert list(source) == [] and time.monotonic() - started < 1
        wait_until(lambda: not source._supervisor.is_alive(), 1)


def test_a_pipe_that_holds_no_video():
    with piped() as (source, writing):
        write_all(writing, b"no video " * 1000)
        with pytest.raises(VideoError, match=r"standard input: Invalid data.*; check"):
            list(source)


def test_whitelist_name_is_no_protocol():
    with pytest.raises((OSError, ValueError)):
        av.open(str(REPOSITORY / "demo/sources/match_1.mp4"), options={"protocol_whitelist": NO_PROTOCOL})


# -- in the command line


def test_viewing_shows_what_a_live_source_says(folder):
    body = (folder / "two.ts").read_bytes()

    def answer(handler, count):
        send(handler, body[: len(body) // 2] if count == 1 else body, len(body))

    session, view = FakeSession(), RecordingView("why?")
    with Served(folder, {"/live": answer}) as served:
        source = open_source(served.url("live"), limits=LIMITS, reconnection=QUICK)
        assert Viewing(session, view, {}).run(source, realtime=True, max_lag_s=60) == 0
    assert [text.partition(": ")[2].split()[0] for text in view.said] == ["lost:", "back"]
    steps = [record for record in view.shown if record["type"] == "step"]
    assert session.asked and steps and all(step["lag_s"] < 2 for step in steps)


def test_cli_reads_video_from_stdin(tiny_checkpoint, folder):
    words = command(tiny_checkpoint, "-", "--as_fast_as_possible")
    with open(folder / "two.ts", "rb") as file:
        done = subprocess.run(words, cwd=REPOSITORY, stdin=file, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[0]["video"] == "standard input" and "no questions can be typed" in records[0]["note"]
    assert [r["type"] for r in records] == ["header", "step", "end"] and records[-1]["reason"] == "end of video"


def test_cli_watches_a_live_source(tiny_checkpoint):
    source = SourceArguments(video="lavfi:testsrc2=size=64x48:rate=10:duration=4", max_pixels=4704)
    model = ModelArguments(model_name_or_path=str(tiny_checkpoint), device="cpu")
    session, frames, header = open_stream(source, model, SpeechArguments(max_answer_tokens=6), MemoryArguments())
    view = RecordingView("What is it?")
    assert Viewing(session, view, header).run(frames, realtime=header["realtime"], max_lag_s=60) == 0
    kinds = [record["type"] for record in view.shown]
    assert kinds.count("step") == 2 and kinds.count("answer") == 1 and header["frame_times"] == "grid"
    assert view.shown[-1]["n_dropped"] == 0 and view.shown[-1]["wall_s"] >= 3.5


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--video", "camera:77"], "camera:77: no such camera"),
        (["--video", "-", "--frame_times", "end32"], "use grid"),
        (["--images_fps", "0"], "--images_fps 0"),
        (["--stall_s", "0"], "stall_s 0"),
    ],
)
def test_cli_refuses_before_it_loads(flags, expected):
    values = {flags[i].removeprefix("--"): flags[i + 1] for i in range(0, len(flags), 2)}
    numbers = {name: float(value) if name.endswith(("fps", "_s")) else value for name, value in values.items()}
    with pytest.raises(UserError, match=expected):
        check(SourceArguments(**numbers), ModelArguments(), SpeechArguments(), MemoryArguments(), OutputArguments())


# -- RTSP, with GStreamer's server where Debian's packages for it are installed


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
