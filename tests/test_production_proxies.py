"""A clip's proxy gives training the frames of the original, at their times, whatever the original is like."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from data.production.make_proxies import MakeProxies, ProxyOptions, exact_times
from data.production.record import Record
from data.production.stage import RecordFailed
from data.video.clip import VideoFile, read_clip
from tests.videos import frame_number, make_video
from utils.errors import UserError

LIMITS = {"min_pixels": 20 * 28 * 28, "total_pixels": 4000 * 28 * 28}
IRREGULAR = [float(t) for t in np.cumsum(np.random.default_rng(0).uniform(0.01, 0.9, 24))]
VIDEOS = {
    "plain.mp4": {},
    "late.mp4": {"start_s": 12.3456},
    "late.mkv": {"start_s": 1.7},
    "ntsc.mp4": {"fps": Fraction(30000, 1001)},
    "irregular.mp4": {"times_s": IRREGULAR},
    "irregular.mkv": {"times_s": IRREGULAR},
    "rotated.mp4": {"rotation": 90},
    "one_frame.mp4": {"n_frames": 1},
}


def stage_for(folder, **options) -> MakeProxies:
    stage = MakeProxies(ProxyOptions(folder=str(folder / "proxies"), **{**LIMITS, **options}))
    stage.check()
    return stage


def read(path, record: Record, stage: MakeProxies):
    return read_clip(path, record.start_s, record.end_s, limits=stage.options.limits)


@pytest.mark.parametrize("codec", ["mpeg4", "h264"])
@pytest.mark.parametrize("name", VIDEOS)
def test_the_grid_takes_the_same_frames_at_the_same_times(tmp_path, name, codec):
    path = make_video(tmp_path / name, **{"n_frames": 80, **VIDEOS[name]})
    with VideoFile(path) as video:
        first, last = video.table.first_s, video.table.last_s
    stage = stage_for(tmp_path, codec=codec)
    windows = [(None, None), (first + 0.73, last - 0.37), (round(first + 0.5, 2), round(first + 3.03, 3))]
    for window in windows[: 1 if name.startswith("one") else 3]:
        (record,) = stage.expand(Record("v/1#0000", str(path), start_s=window[0], end_s=window[1]))
        assert not record.flags and record.extra == {"proxy_of": str(path)}
        original, proxy = (read(video, record, stage) for video in (path, record.video))
        assert np.array_equal(original.times_s, proxy.times_s)
        assert original.frames.shape == proxy.frames.shape
        if not name.startswith("rotated"):  # turned, the number cannot be read off
            numbers = [[frame_number(frame.numpy()) for frame in clip.frames] for clip in (original, proxy)]
            assert numbers[0] == numbers[1]
        off = (original.frames.short() - proxy.frames.short()).abs().float().mean()
        assert off < 4, "the frames look different"


def test_codecs_and_their_quality(tmp_path):
    path = str(make_video(tmp_path / "a.mp4", 60))
    sizes = {}
    for options in (
        {},
        {"quantizer": 4},
        {"codec": "h264"},
        {"codec": "h264", "crf": 35},
        {"codec": "h264", "chroma": "444"},
    ):
        (record,) = stage_for(tmp_path, **options).expand(Record("a", path))
        with av.open(record.video) as container:
            coded = container.streams.video[0].codec_context
            expected = options.get("codec", "mpeg4"), f"yuv{options.get('chroma', '420')}p"
            assert (coded.name, coded.pix_fmt) == expected
        sizes[tuple(options.items())] = Path(record.video).stat().st_size
    best, coarse, h264, coarse_h264, _colours = sizes.values()
    assert coarse < best and coarse_h264 < h264


def test_a_proxy_is_made_once_and_again_when_something_changes(tmp_path):
    path = make_video(tmp_path / "a.mp4", 60)
    record = {"id": "a#0000", "video": str(path), "start_s": 0.1, "end_s": 2.0}
    options = ({"quantizer": 9}, {"gop": 1}, {"codec": "h264"}, {"codec": "h264", "crf": 30})
    made = {stage_for(tmp_path, **o).expand(Record(**record))[0].video for o in ({}, {}, *options)}
    made.add(stage_for(tmp_path).expand(Record(**{**record, "end_s": 1.5}))[0].video)
    make_video(path, 62)
    made.add(stage_for(tmp_path).expand(Record(**record))[0].video)
    assert len(made) == 7 == len(list((tmp_path / "proxies").iterdir())), "with the .partial files gone"


@pytest.mark.parametrize("codec", ["mpeg4", "h264"])
def test_the_same_clip_gives_the_same_bytes(tmp_path, codec):
    path = make_video(tmp_path / "a.mp4", 60)
    made = []
    for name in ("one", "two"):
        (record,) = stage_for(tmp_path / name, codec=codec).expand(Record("a", str(path)))
        made.append((record.video.rpartition("/")[2], Path(record.video).read_bytes()))
    assert made[0] == made[1]


def test_a_finished_conversation_is_pointed_at_the_proxy(tmp_path):
    path = str(make_video(tmp_path / "a.mp4", 60))
    video = {"type": "video", "video": path, "video_start": 0.0, "video_end": 2.0}
    words = {"type": "text_stream", "text_stream": [[0.1, 0.2, "so"]]}
    said = [{"role": "user", "content": [video]}, {"role": "assistant", "content": [words]}]
    record = Record("a", path, start_s=0.0, end_s=2.0, conversation=said)
    (record,) = stage_for(tmp_path).expand(record)
    shown = record.conversation[0]["content"][0]
    assert shown == {**video, "video": record.video} and record.video != path
    assert record.conversation[1] == said[1]


@pytest.mark.parametrize("shift", [Fraction(1, 50), Fraction(1, 2)])
def test_a_proxy_that_would_not_give_the_same_frames_is_not_used(tmp_path, monkeypatch, shift):
    """It is read back: here it was written with other times."""
    path = str(make_video(tmp_path / "a.mp4", 60))

    def shifted(clip, table, start_s):
        return [time + shift for time in exact_times(clip, table, start_s)]

    monkeypatch.setattr("data.production.make_proxies.exact_times", shifted)
    (record,) = stage_for(tmp_path).expand(Record("a", path))
    assert record.video == path and record.flags == ["no_proxy"] and not list((tmp_path / "proxies").iterdir())


def test_a_clip_that_mp4_cannot_time_keeps_its_video(tmp_path, monkeypatch):
    path = str(make_video(tmp_path / "a.mp4", 60))
    monkeypatch.setattr("data.production.make_proxies.MAX_TIMESCALE", 1)
    (record,) = stage_for(tmp_path).expand(Record("a", path))
    assert record.video == path and record.flags == ["no_proxy"] and not list((tmp_path / "proxies").iterdir())


def test_what_cannot_be_read_fails_and_bad_options_are_named(tmp_path):
    path = str(make_video(tmp_path / "a.mp4", 60))
    for record in (Record("a", str(tmp_path / "none.mp4")), Record("b", path, start_s=50.0, end_s=60.0)):
        with pytest.raises(RecordFailed) as failure:
            stage_for(tmp_path).expand(record)
        assert failure.value.cause == "broken_video"
    for options, said in (
        ({"codec": "hevc"}, "choose mpeg4 or h264"),
        ({"chroma": "444"}, "choose 420 .444 is h264's"),
        ({"codec": "h264", "chroma": "422"}, "choose 420 or 444"),
        ({"quantizer": 0}, "--quantizer 0"),
        ({"gop": 0}, "--gop 0"),
        ({"max_frames": 0}, "at least 1"),
    ):
        with pytest.raises(UserError, match=said):
            stage_for(tmp_path, **options)
