"""Live and stored sources: their kinds, a folder of images, drawn pictures, and sources in the command line."""

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from data.sources.catalogue import open_source
from data.sources.reconnection import Reconnection
from data.sources.spec import FORMS, NO_PROTOCOL, _camera, parse_spec
from data.sources.stream import N_HELD, StreamSource
from data.video.container import VideoError
from data.video.live import FrameMaker, live_frames
from demo.arguments import LiveModelArguments, MemoryArguments, OutputArguments, SourceArguments, SpeechArguments
from demo.cli import check_flags, open_stream
from demo.viewing import Viewing
from models.load import load_checkpoint
from models.streaming.options import StreamOptions
from tests.conftest import REPOSITORY
from tests.sources import LIMITS, QUICK, Served, make_served, send, times_of, wait_until
from tests.test_cli import RecordingView, command
from tests.videos import frame_number, make_video
from tests.waiting import PATIENCE_S
from utils.errors import UserError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_served(tmp_path_factory.mktemp("served"))


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


def test_whitelist_name_is_no_protocol():
    with pytest.raises((OSError, ValueError)):
        av.open(str(REPOSITORY / "demo/sources/match_1.mp4"), options={"protocol_whitelist": NO_PROTOCOL})


# a folder of images


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


# a source that keeps its own time


def test_a_drawn_picture_is_paced():
    source = open_source("lavfi:testsrc2=size=64x48:rate=25:duration=1.2", limits=LIMITS)
    assert source.is_live and source.now() == 0
    started, late_s = time.monotonic(), []
    for frame in source:
        late_s.append(source.now() - frame.time_s)
    assert len(late_s) == 3 and time.monotonic() - started >= 1.0
    assert min(late_s) >= 0 and source.has_ended


def test_close_ends_an_iteration():
    source = open_source("lavfi:testsrc2=size=64x48:rate=25", limits=LIMITS)
    frames = iter(source)
    next(frames)
    reader = threading.Thread(target=list, args=(frames,), daemon=True)
    reader.start()
    assert reader.is_alive() and not source.has_ended  # the picture has no end of its own
    source.close()
    wait_until(lambda: not reader.is_alive())
    assert list(source) == []


def unpaced(connect: Callable) -> StreamSource:
    """A source that is read as fast as it comes, by a clock that stands still."""
    maker = FrameMaker("unpaced", LIMITS, False)
    return StreamSource("unpaced", connect, maker, QUICK, eof_is_end=True, paces=False, monotonic=lambda: 7.0)


def test_the_oldest_frames_are_dropped_and_counted():
    # 40 s of picture that come at once
    source = unpaced(lambda _: av.open("testsrc2=size=64x48:rate=5:duration=40", format="lavfi"))
    source.next_frame(PATIENCE_S)  # the first one, unless this thread was late
    wait_until(lambda: source._over)
    rest = list(source)
    assert times_of(rest) == [n / 2 for n in range(80 - N_HELD, 80)]
    assert source.n_dropped == 80 - 1 - N_HELD


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


# in the command line


def test_viewing_shows_what_a_live_source_says(folder, tiny_checkpoint):
    body = (folder / "two.ts").read_bytes()

    def answer(handler, count):
        send(handler, body[: len(body) // 2] if count == 1 else body, len(body))

    checkpoint, view = load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32"), RecordingView("why?")
    options = StreamOptions(max_new_tokens=4, max_answer_tokens=4)
    with Served(folder, {"/live": answer}) as served:
        source = open_source(served.url("live"), limits=LIMITS, reconnection=QUICK)
        assert Viewing(checkpoint, options, view, {}).run(source, realtime=True, max_lag_s=60) == 0
    assert [text.partition(": ")[2].split()[0] for text in view.said] == ["lost:", "back"]
    steps = [record for record in view.shown if record["type"] == "step"]
    assert steps and [record["question"] for record in view.shown if record["type"] == "answer"] == ["why?"]
    end = view.shown[-1]
    assert end["n_frames"] == sum(step["n_frames"] for step in steps) + end["n_dropped"]


def test_cli_reads_video_from_stdin(tiny_checkpoint, folder):
    words = command(tiny_checkpoint, "-", "--as_fast_as_possible")
    with open(folder / "two.ts", "rb") as file:
        done = subprocess.run(words, cwd=REPOSITORY, stdin=file, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[0]["video"] == "standard input" and "no questions can be typed" in records[0]["note"]
    assert [r["type"] for r in records] == ["header", "step", "end"] and records[-1]["reason"] == "end of video"


def test_cli_watches_a_live_source(tiny_checkpoint):
    source = SourceArguments(video="lavfi:testsrc2=size=64x48:rate=10:duration=4", max_pixels=4704)
    model = LiveModelArguments(model_name_or_path=str(tiny_checkpoint), device="cpu")
    checkpoint, options, frames, header = open_stream(
        source, model, SpeechArguments(max_answer_tokens=6), MemoryArguments()
    )
    view = RecordingView("What is it?")
    assert Viewing(checkpoint, options, view, header).run(frames, realtime=header["realtime"], max_lag_s=60) == 0
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
        check_flags(
            SourceArguments(**numbers), LiveModelArguments(), SpeechArguments(), MemoryArguments(), OutputArguments()
        )
