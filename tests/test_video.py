"""The video reader: every frame is that of a plain decoder, whatever the file; broken files say so."""

import io
import json
import logging
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from PIL import Image

from data.samples.patches import cut_patches
from data.video.clip import (
    VideoError,
    VideoFile,
    live_frames,
    read_clip,
    read_image,
    read_packed,
)
from data.video.frame_plan import VideoLimits
from data.video.pixels import Resizer, RgbConverter
from tests.videos import (
    decode_every_frame,
    frame_number,
    make_faststart,
    make_sound,
    make_video,
    numbered_frame,
    packets_needed,
    read_with_opencv,
    truncate,
)

LIMITS = VideoLimits(min_pixels=28 * 28 * 4, total_pixels=10**7)
VARIED = [0, 0.04, 0.08, 0.5, 1.0, 1.1, 1.2, 1.3, 4.0, 4.1, 4.3]

KINDS = {  # file name -> how it is made
    "ordinary.mp4": {},
    "short_gop.mp4": {"gop": 12},
    "open_gop.mp4": {"gop": 10, "options": {"x264-params": "open-gop=1"}},
    "pyramid.mp4": {"b_frames": 7, "options": {"x264-params": "b-pyramid=2"}},
    "intra_refresh.mp4": {"gop": 20, "options": {"x264-params": "intra-refresh=1"}},
    "no_b_frames.mp4": {"b_frames": 0},
    "matroska.mkv": {},
    "flash.flv": {},
    "transport.ts": {"gop": 25},
    "raw.h264": {},
    "old.avi": {"codec": "mpeg4"},
    "hevc.mp4": {"codec": "libx265", "gop": 20, "options": {"x265-params": "log-level=none"}},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "offset.mp4": {"start_s": 1.7},
    "varied.mp4": {"times_s": VARIED},
    "one.mp4": {"n_frames": 1},
    "odd_size.mp4": {"size_hw": (73, 161), "pix_fmt": "yuv444p"},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Make each kind of video once, when it is first asked for."""
    folder = tmp_path_factory.mktemp("videos")

    def get(name: str):
        path = folder / name
        return path if path.exists() else make_video(path, **KINDS[name])

    return get


def start_of(path) -> Fraction:
    with av.open(str(path)) as container:
        return Fraction(container.start_time or 0, av.time_base)


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_those_of_a_plain_decoder(videos, name):
    path = videos(name)
    every, ticks = read_with_opencv(path), decode_every_frame(path)[1]
    assert len({frame.tobytes() for frame in every}) == len(every), "each frame has content of its own"
    generator = np.random.default_rng(0)
    with VideoFile(path) as video:
        assert len(video.table) == len(every)
        if None not in ticks:  # the file's clock begins where its container says that it starts
            start = round(start_of(path) / video.table.time_base)
            assert video.table.start_ticks.tolist() == [tick - start for tick in ticks]
        for n_frames in (1, 2, 5, 20):
            indices = generator.choice(len(every), min(n_frames, len(every)), replace=True)
            assert np.array_equal(video.read(indices).numpy(), every[indices])
        assert np.array_equal(video.read(np.arange(len(every))).numpy(), every)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotated_videos_stand_upright(tmp_path, turns):
    path = make_video(tmp_path / "turned.mp4", n_frames=5, rotation=90 * turns)
    every, _ = decode_every_frame(path)
    upright = np.rot90(every, turns, axes=(2, 3))
    with VideoFile(path) as video:
        assert video.size_hw == upright.shape[2:]
        assert np.array_equal(video.read(np.arange(5)).numpy(), upright)


def test_a_cut_by_an_edit_list_is_kept(tmp_path, videos):
    """Frames before an edit's start are decoded, because others refer to them, but not shown."""
    import av

    path = tmp_path / "edited.mp4"
    with av.open(str(videos("short_gop.mp4"))) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                shift = int(0.28 / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                target.mux(packet)
    every, ticks = decode_every_frame(path)
    with VideoFile(path) as video:
        assert video.table.start_ticks.tolist() == ticks
        assert np.array_equal(video.read(np.arange(len(every))).numpy(), every)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("short_gop.mp4", [31, 32]), ("short_gop.mp4", [58]), ("short_gop.mp4", [13, 20]), ("open_gop.mp4", [39])],
)
def test_decodes_no_more_than_needed(videos, monkeypatch, name, wanted):
    """Frames cost the part of their group before them, less what nothing refers to."""
    import data.video.clip

    decoded = []

    def counted(decoder, packet, path):
        frames = DECODE(decoder, packet, path)
        decoded.extend(frame.pts for frame in frames)
        return frames

    DECODE = data.video.clip.decode_packet
    with VideoFile(videos(name)) as video:
        size, ticks = video.size_hw, video.table.start_ticks[wanted].tolist()
        monkeypatch.setattr(data.video.clip, "decode_packet", counted)
        frames = video.read(np.array(wanted), size_hw=size)
    needed, n_skipped = packets_needed(videos(name), ticks)
    assert sorted(decoded) == sorted(needed) and n_skipped > 0
    assert [frame_number(frame.numpy()) for frame in frames] == wanted


@pytest.mark.parametrize("name", ["ordinary.mp4", "offset.mp4", "varied.mp4", "transport.ts", "raw.h264"])
@pytest.mark.parametrize("float_resize", [False, True])
def test_a_clip_is_the_chosen_frames_resized(videos, name, float_resize):
    clip = read_clip(videos(name), limits=LIMITS, float_resize=float_resize)
    every, _ = decode_every_frame(videos(name))
    assert clip.frames.shape == (len(clip.plan), 3, 84, 168)
    assert len(clip.frames) % 2 == 0
    for frame, index in zip(clip.frames, clip.plan.indices, strict=True):
        rgb = np.ascontiguousarray(every[index].transpose(1, 2, 0))
        assert torch.equal(frame, Resizer((84, 168), float_resize)(rgb))
        assert frame_number(frame.numpy()) == index


@pytest.mark.parametrize(
    "name", ["ordinary.mp4", "short_gop.mp4", "pyramid.mp4", "matroska.mkv", "vp9.webm", "varied.mp4"]
)
def test_end32_is_the_published_readers_time(videos, name):
    """decord, with which the published data was made: its frames, and the end that it states for each."""
    reader = pytest.importorskip("decord").VideoReader(str(videos(name)))
    ends = reader.get_frame_timestamp(range(len(reader)))[:, 1]
    with VideoFile(videos(name)) as video:
        assert np.array_equal(video.table.end_times32(), ends)
    clip = read_clip(videos(name), 0.3, 2.9, limits=LIMITS, frame_times="end32")
    assert np.array_equal(clip.times_s, ends[clip.plan.indices])
    every = reader.get_batch(clip.plan.indices.tolist()).asnumpy()
    assert [frame_number(frame) for frame in every.transpose(0, 3, 1, 2)] == clip.plan.indices.tolist()
    assert [frame_number(frame.numpy()) for frame in clip.frames] == clip.plan.indices.tolist()


def test_windows_and_rules(videos):
    path = videos("offset.mp4")
    clip = read_clip(path, 0.31, 1.3, limits=LIMITS)
    assert clip.times_s.tolist() == [0.31, 0.81] and clip.plan.indices.tolist() == [7, 20]
    clip = read_clip(path, limits=LIMITS, rule="question")
    assert clip.plan.indices.tolist() == np.linspace(0, 74, 6).round().tolist()
    assert [frame_number(frame.numpy()) for frame in clip.frames] == clip.plan.indices.tolist()
    assert clip.times_s[0] == 0
    ends = read_clip(path, limits=LIMITS, frame_times="end32")
    assert ends.times_s[0] == np.float32(0.04)
    assert read_clip(videos("one.mp4"), limits=LIMITS).plan.indices.tolist() == [0, 0]


@pytest.mark.parametrize("size", [((72, 160), (84, 168)), ((180, 320), (112, 196)), ((50, 40), (84, 56))])
def test_resize_equals_torch(size):
    (height, width), out = size
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ours, reference = Resizer(out)(rgb), Resizer(out, float_resize=True)(rgb)
    difference = (ours.int() - reference.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.005


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "nv12"])
@pytest.mark.parametrize("width", [2, 28, 56, 75, 84, 102, 112, 140, 160])  # FFmpeg's planes lack columns at 56 and 84
def test_frames_that_keep_their_size_equal_plain_rgb(pix_fmt, width):
    random, convert = np.random.default_rng(width), RgbConverter()
    for height, colorspace, color_range in ((36, 2, 0), (36, 1, 1), (36, 5, 2), (35, 6, 0), (36, 9, 1)):
        frame = av.VideoFrame(width, height, pix_fmt)
        for plane in frame.planes:
            plane.update(random.integers(0, 256, plane.buffer_size, dtype=np.uint8).tobytes())
        frame.colorspace, frame.color_range = colorspace, color_range
        out = torch.zeros(3, height, width, dtype=torch.uint8)
        convert.fill(out, frame)
        assert np.array_equal(out.permute(1, 2, 0), convert(frame))


@pytest.mark.parametrize("name", ["ordinary.mp4", "transport.ts"])
def test_frames_asked_for_again_and_out_of_order(videos, name):
    every, _ = decode_every_frame(videos(name))
    indices = np.array([7, 3, 3, 7, 0, 9, 9, 9])
    with VideoFile(videos(name)) as video:
        assert np.array_equal(video.read(indices).numpy(), every[indices])
        assert video.read(np.array([], np.int64)).shape == (0, *every.shape[1:])


def test_a_clip_is_read_from_a_file_opened_once(videos, monkeypatch):
    import data.video.clip

    opened = []
    monkeypatch.setattr(data.video.clip, "open_video", lambda path: opened.append(path) or OPEN(path))
    OPEN = data.video.container.open_video
    read_clip(videos("ordinary.mp4"), 1.0, 2.5, limits=LIMITS)
    assert len(opened) == 1


@pytest.mark.parametrize("frame_times", ["grid", "end32"])
@pytest.mark.parametrize("name", ["ordinary.mp4", "varied.mp4", "transport.ts", "raw.h264", "matroska.mkv"])
def test_live_reading_follows_its_rule(videos, name, frame_times):
    path = videos(name)
    with VideoFile(path) as video:
        table = video.table
    starts = table.start_ticks * float(table.time_base)
    ends = table.end_times32().astype(float)
    expected = []
    for time_s in np.arange(0, table.last_s + 1e-6, 0.5):
        if frame_times == "grid" and starts[0] <= time_s < table.last_s:
            expected.append((np.flatnonzero(starts <= time_s + 1e-9)[-1], time_s))
        if frame_times == "end32":
            index = next((i for i, end in enumerate(ends) if end >= time_s), len(ends) - 1)
            expected.append((index, time_s))
    got = list(live_frames(path, limits=LIMITS, frame_times=frame_times))
    assert [(frame_number(item.frame.numpy()), item.time_s) for item in got] == expected
    assert all(item.frame.shape == (3, 84, 168) for item in got)


def test_live_reading_equals_a_clip_on_the_same_grid(videos):
    clip = read_clip(videos("ordinary.mp4"), limits=LIMITS)
    live = list(live_frames(videos("ordinary.mp4"), limits=LIMITS))
    assert torch.equal(torch.stack([item.frame for item in live]), clip.frames)
    assert [item.time_s for item in live] == clip.times_s.tolist()


def test_live_reading_can_start_later(tmp_path):
    path = make_video(tmp_path / "long.mp4", n_frames=200, gop=20)
    later = list(live_frames(path, limits=LIMITS, start_s=5.25))
    assert [item.time_s for item in later] == [5.25, 5.75, 6.25, 6.75, 7.25, 7.75]
    assert [frame_number(item.frame.numpy()) for item in later] == [131, 143, 156, 168, 181, 193]
    limited = VideoLimits(max_pixels=28 * 28 * 4)
    assert next(live_frames(path, limits=limited)).frame.shape == (3, 28, 56)
    with pytest.raises(VideoError, match="no frame from 50 s"):
        list(live_frames(path, limits=LIMITS, start_s=50))


def encode(number: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(numbered_frame(number, 72, 160)).save(file, kind)
    return file.getvalue()


def pack(path, n_frames: int, kind: str = "PNG") -> list[int]:
    encoded = [encode(number, kind) for number in range(n_frames)]
    path.write_bytes(b"".join(encoded))
    return np.cumsum([len(frame) for frame in encoded]).tolist()


@pytest.mark.parametrize(("n_frames", "expected"), [(1, [0, 0]), (3, [0, 2]), (5, [0, 1, 3, 4]), (6, list(range(6)))])
def test_packed_frames(tmp_path, n_frames, expected):
    pos = pack(tmp_path / "frames", n_frames)
    clip = read_packed(tmp_path / "frames", pos, limits=LIMITS)
    assert [frame_number(frame.numpy()) for frame in clip.frames] == expected
    assert clip.times_s.tolist() == [index / 2 for index in expected]
    assert clip.frames.shape[1:] == (3, 84, 168)
    assert len(read_packed(tmp_path / "frames", pos, limits=VideoLimits(max_frames=2)).frames) == 2


def test_broken_packed_frames(tmp_path):
    path = tmp_path / "frames"
    pos = pack(path, 4, "JPEG")
    for bad, message in (
        ([], "rising order"),
        ([pos[0], pos[0]], "rising order"),
        ([*pos, pos[-1] + 9], "truncated"),
        ([7, *pos[1:]], "frame 0, bytes 0 to 7"),
    ):
        with pytest.raises(VideoError, match=message):
            read_packed(path, bad, limits=LIMITS)
    with pytest.raises(VideoError, match="no such file"):
        read_packed(tmp_path / "gone", pos, limits=LIMITS)


def test_images(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(numbered_frame(5, 200, 320)).save(path)
    assert read_image(path).shape == (1, 3, 196, 308)
    assert read_image(path, max_pixels=28 * 28 * 6).shape == (1, 3, 28, 84)
    Image.new("RGBA", (56, 28), (255, 0, 0, 0)).save(path)
    assert read_image(path).unique().tolist() == [255]
    turned = Image.new("RGB", (112, 56))
    turned.getexif()[0x0112] = 6
    turned.save(path, exif=turned.getexif())
    assert read_image(path).shape == (1, 3, 112, 56)


@pytest.mark.parametrize("content", [None, b"", b"no image", "folder", "long"])
def test_broken_images(tmp_path, content):
    path = tmp_path / "image.png"
    if content == "folder":
        path.mkdir()
    elif content == "long":
        Image.new("RGB", (3000, 10)).save(path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(VideoError, match=r"image\.png"):
        read_image(path)


def read_everyway(path):
    """Read a file in each way that there is; returns the outcomes: a Clip, a list, or the VideoError."""
    outcomes = []
    for read in (
        lambda: read_clip(path, limits=LIMITS),
        lambda: read_clip(path, limits=LIMITS, rule="question", frame_times="end32"),
        lambda: list(live_frames(path, limits=LIMITS)),
    ):
        try:
            outcomes.append(read())
        except VideoError as error:
            outcomes.append(error)
    return outcomes


def test_files_that_are_no_videos(tmp_path):
    cases = {
        "gone.mp4": "no such file",
        "empty.mp4": "empty",
        "folder.mp4": "folder",
        "text.mp4": "cannot be opened as a video",
        "sound.mp4": "no video stream",
        "headless.mp4": "cannot be opened as a video",
    }
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "text.mp4").write_text("not a video " * 50)
    make_sound(tmp_path / "sound.mp4")
    truncate(make_video(tmp_path / "whole.mp4"), 0.6, tmp_path / "headless.mp4")  # its index stood at the end
    for name, message in cases.items():
        for outcome in read_everyway(tmp_path / name):
            assert isinstance(outcome, VideoError), name
            assert name in str(outcome)
            assert message in str(outcome)


def test_a_truncated_video_gives_what_it_holds_and_says_so(tmp_path, caplog):
    whole = make_faststart(tmp_path / "whole.mp4", n_frames=250)
    path = truncate(whole, 0.6, tmp_path / "cut.mp4")
    every, _ = decode_every_frame(whole)
    with caplog.at_level(logging.WARNING):
        clip = read_clip(path, limits=LIMITS)
    assert "cut short" in caplog.text
    assert 4 <= len(clip.frames) < 20
    for frame, index in zip(clip.frames, clip.plan.indices, strict=True):
        rgb = np.ascontiguousarray(every[index].transpose(1, 2, 0))
        assert torch.equal(frame, Resizer((84, 168))(rgb))
    assert read_clip(path, 0, 1, limits=LIMITS).plan.indices.tolist() == [0, 12, 25, 25]
    with pytest.raises(VideoError, match=r"cut short: it holds frames up to .* asks for 9 s"):
        read_clip(path, 0, 9, limits=LIMITS)


def test_an_undecodable_frame_is_named_not_replaced(tmp_path):
    path = make_video(tmp_path / "damaged.mp4", n_frames=75, gop=25, b_frames=0)
    with VideoFile(path) as video:
        entry_pts = int(video.table.start_ticks[50])
        packets = video.listing.packets
    import av

    with av.open(str(path)) as container:
        packet = next(p for p in container.demux(video=0) if p.pts == entry_pts)
        place, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    data[place : place + size] = bytes(size)
    path.write_bytes(data)
    assert packets.keyframe[50]
    with VideoFile(path) as video, pytest.raises(VideoError, match="the frame at 2 s cannot be decoded"):
        video.read(np.array([50]))
    assert read_clip(path, 0, 1.9, limits=LIMITS).plan.indices.tolist() == [0, 12, 25, 37]


def test_windows_without_frames(videos):
    with pytest.raises(VideoError, match=r"ordinary\.mp4: no frame in the window from 7 s to 9 s: .* 0 s to 3 s"):
        read_clip(videos("ordinary.mp4"), 7, 9, limits=LIMITS)
    for start_s, end_s in ((2, 1), (float("nan"), 1), (0, float("inf"))):
        with pytest.raises(VideoError, match=r"ordinary\.mp4"):
            read_clip(videos("ordinary.mp4"), start_s, end_s, limits=LIMITS)


@pytest.mark.parametrize("name", ["ordinary.mp4", "matroska.mkv", "transport.ts", "old.avi"])
def test_damaged_bytes_neither_crash_nor_hang(videos, tmp_path, name):
    """Whatever is broken, reading gives a clip of the planned length or a VideoError with the path."""
    generator = np.random.default_rng(0)
    whole = np.frombuffer(videos(name).read_bytes(), np.uint8)
    for trial in range(12):
        data = whole.copy()
        where = generator.integers(0, len(data), 1 + 6 * trial)
        data[where] = generator.integers(0, 256, len(where))
        path = tmp_path / f"{trial}_{name}"
        path.write_bytes(data[: len(data) if trial % 3 else int(len(data) * generator.random())].tobytes())
        for outcome in read_everyway(path):
            if isinstance(outcome, VideoError):
                assert str(path) in str(outcome)
            elif not isinstance(outcome, list):
                assert len(outcome.frames) == len(outcome.plan) > 0


@pytest.mark.parametrize("float_resize", [False, True])
@pytest.mark.parametrize("name", ["no_window_bikes", "unicode", "vfr", "bbb_720p", "video_qa", "image"])
def test_golden_frames_and_pixels(golden, name, float_resize):
    """The published code's frames, times and patches, for every sample with something to see."""
    expected = json.loads((golden / "expected_samples.json").read_text())
    pixels = np.load(golden / "expected_pixels.npz")
    lines = (golden / "samples_with_seeks.jsonl").read_text().splitlines()
    messages = json.loads(lines[expected["names"].index(name)])
    element = next(part for message in messages for part in message["content"] if part["type"] in ("video", "image"))
    if name == "image":
        patches, _ = cut_patches(read_image(golden / element["image"]).repeat(2, 1, 1, 1))
        assert np.array_equal(patches.numpy(), pixels["image/pixel_values_u8"])
        return
    limits = VideoLimits.from_environment({key: str(value) for key, value in expected["limits"].items()})
    clip = read_clip(
        golden / element["video"],
        element.get("video_start"),
        element.get("video_end"),
        limits=limits,
        rule="question" if name == "video_qa" else "stream",
        frame_times="end32",
        float_resize=float_resize,
    )
    sample = expected["samples"][name]
    n_frames = len(clip.frames)
    bounds = [0, n_frames] if name == "video_qa" else [0, *range(6, n_frames + 1, 2)]
    steps = [cut_patches(clip.frames[a:b]) for a, b in pairwise(bounds)]
    n_steps = len(sample["video_grid_thw"])  # silent steps at the end are cut
    assert [list(grid) for _, grid in steps[:n_steps]] == sample["video_grid_thw"]
    if "clip_pts" in sample and name != "video_qa":
        assert np.array_equal(np.float32(clip.times_s), np.float32(sample["clip_pts"]))
    got = torch.cat([patches for patches, _ in steps[:n_steps]]).numpy().astype(int)
    difference = np.abs(got - pixels[f"{name}/pixel_values_videos_u8"])
    assert difference.max() <= 1
    assert difference.mean() < 1e-3
