"""A rendered video has its source's frames, times and sound, captions where and when they belong, or is not there."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from demo.render.commentary import FinishedCommentary
from demo.render.painter import OverlayPainter, automatic_font_size
from demo.render.video import RenderOptions, main, render
from tests.conftest import REPOSITORY
from tests.videos import decode_every_frame, make_video
from tests.waiting import PATIENCE_S
from utils.errors import UserError

SAID = FinishedCommentary(steps=[(0.0, 1.0, "Cyan pass"), (1.0, 2.0, "out right.")])
NOTHING = FinishedCommentary()
FINE = RenderOptions(crf=4)


def tone(n_samples: int, rate: int = 48000) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(n_samples) / rate)).astype(np.float32)[None]


def add_sound(video: Path, out: Path, codec: str, seconds: float = 3.0, start_s: float = 0.0) -> Path:
    """The video's packets with a tone beside them, which begins at start_s."""
    with av.open(str(video)) as source, av.open(str(out), "w") as container:
        pictures = container.add_stream_from_template(source.streams.video[0])
        stream = container.add_stream(codec, rate=48000, layout="stereo")
        resampler = av.AudioResampler(format=stream.codec_context.format.name, layout="stereo", rate=48000)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = pictures
                container.mux(packet)
        for first in range(0, round(seconds * 48000), 4800):
            frame = av.AudioFrame.from_ndarray(tone(4800), format="fltp", layout="mono")
            frame.rate, frame.pts, frame.time_base = 48000, first + round(start_s * 48000), Fraction(1, 48000)
            for resampled in resampler.resample(frame):
                container.mux(stream.encode(resampled))
        container.mux(stream.encode())
    return out


def make_flat(path: Path, level: int, size_hw: tuple[int, int], n_frames: int = 20, fps: int = 10, **stream) -> Path:
    """A grey picture that does not move."""
    with av.open(str(path), "w") as container:
        made = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": "1"})
        made.height, made.width, made.pix_fmt = *size_hw, "yuv420p"
        made.codec_context.sample_aspect_ratio = stream.get("aspect", Fraction(1))
        if stream.get("rotation"):
            made.set_display_rotation(stream["rotation"])
        picture = np.full((*size_hw, 3), level, np.uint8)
        for _ in range(n_frames):
            container.mux(made.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(made.encode())
    return path


def frame_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.pts * stream.time_base for frame in container.decode(stream)]


def times_from_start(path: Path) -> list[Fraction]:
    """Frame times of a source, counted from the start that its container states."""
    with av.open(str(path)) as container:
        unit = container.streams.video[0].time_base
        start = round(Fraction(max(container.start_time or 0, 0), av.time_base) / unit) * unit
    return [time - start for time in frame_times(path)]


def grey_at(path: Path, time_s: float) -> np.ndarray:
    """Luma of the picture on screen at a time, float [H, W] of pixels as displayed."""
    with av.open(str(path)) as container:
        frames = [frame for frame in container.decode(video=0) if frame.time <= time_s + 1e-6]
        return frames[-1].to_ndarray(format="gray").astype(float)


def sound_packets(path: Path) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return [(packet.pts * stream.time_base, bytes(packet)) for packet in container.demux(stream) if packet.size]


def rendered(source: Path, said: FinishedCommentary = SAID, options: RenderOptions = FINE, **others) -> Path:
    out = source.with_name(f"{source.stem}_out.mp4")
    render(source, said, out, options, overwrite=True, **others)
    return out


def is_faststart(path: Path) -> bool:
    data = path.read_bytes()
    return 0 < data.find(b"moov") < data.find(b"mdat")


@pytest.mark.parametrize(
    "made",
    [
        {"n_frames": 40}, {"n_frames": 30, "fps": 30, "b_frames": 0}, {"rotation": 90}, {"rotation": 180},
        {"times_s": [0, 0.04, 0.1, 0.13, 0.5, 0.7, 1.1, 1.5, 1.9]}, {"start_s": 5.0, "n_frames": 30},
        {"pix_fmt": "yuvj420p"}, {"pix_fmt": "yuv420p10le"}, {"size_hw": (73, 161), "pix_fmt": "yuv444p"},
        {"size_hw": (16, 16)},
    ],
    ids=str,
)  # fmt: skip
def test_frames_keep_count_times_and_colours(tmp_path: Path, made: dict):
    source = make_video(tmp_path / "source.mp4", **made)
    out = rendered(source, NOTHING)
    assert frame_times(out) == times_from_start(source) and is_faststart(out)
    turns = made.get("rotation", 0) // 90
    ours, theirs = decode_every_frame(out)[0], np.rot90(decode_every_frame(source)[0], turns, axes=(2, 3))
    if made.get("size_hw", (72, 160))[0] % 2 == 0:
        assert np.abs(ours.astype(int) - theirs).mean() < 2.5
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt in ("yuv420p", "yuvj420p")
        assert next(container.decode(stream)).rotation == 0
        assert (stream.height % 2, stream.width % 2) == (0, 0)


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.ts", "libx264")])
def test_other_containers_keep_their_times(tmp_path: Path, name: str, codec: str):
    source = make_video(tmp_path / name, 40, codec=codec, options={})
    ours, theirs = frame_times(rendered(source)), times_from_start(source)
    assert len(ours) == 40 and all(abs(a - b) < Fraction(1, 50000) for a, b in zip(ours, theirs, strict=True))


def test_the_last_frame_stays_as_long_as_in_the_source(tmp_path: Path):
    source = make_video(tmp_path / "source.mp4", 40)
    with av.open(str(source)) as a, av.open(str(rendered(source))) as b:
        assert a.duration == b.duration


@pytest.mark.parametrize(
    ("codec", "suffix"), [("aac", ".mp4"), ("libmp3lame", ".mp4"), ("libopus", ".mkv"), ("ac3", ".mkv")]
)
def test_sound_is_copied_where_mp4_takes_it(tmp_path: Path, codec: str, suffix: str):
    source = add_sound(make_video(tmp_path / "video.mp4", 75), tmp_path / f"source{suffix}", codec, start_s=0.25)
    ours, theirs = sound_packets(rendered(source)), sound_packets(source)
    assert [data for _, data in ours] == [data for _, data in theirs]
    assert all(abs(a - b) < Fraction(1, 900) for (a, _), (b, _) in zip(ours, theirs, strict=True))


def test_sound_of_a_transport_stream_is_copied(tmp_path: Path):
    source = add_sound(make_video(tmp_path / "video.mp4", 75), tmp_path / "source.ts", "aac")
    adts, start = 7, sound_packets(source)[0][0]
    ours, theirs = sound_packets(rendered(source)), sound_packets(source)
    assert [data for _, data in ours] == [data[adts:] for _, data in theirs]
    assert all(abs(a - (b - start)) < Fraction(1, 40000) for (a, _), (b, _) in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("codec", ["pcm_s16le", "flac"])
def test_other_sound_becomes_aac_in_place(tmp_path: Path, codec: str):
    source = add_sound(make_video(tmp_path / "video.mp4", 75), tmp_path / "source.mkv", codec, 1.5, start_s=0.5)
    with av.open(str(rendered(source))) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    loud = np.abs(samples) > 0.1
    assert not loud[: round(0.45 * 48000)].any() and loud[round(0.55 * 48000) : round(1.9 * 48000)].mean() > 0.5


def inside(picture: np.ndarray, rows: tuple[float, float], columns: tuple[float, float]) -> np.ndarray:
    height, width = picture.shape
    top, bottom = (round(height * share) for share in rows)
    return picture[top:bottom, round(width * columns[0]) : round(width * columns[1])]


@pytest.mark.parametrize("level", [0, 128, 255])
def test_captions_are_seen_when_they_were_spoken_and_nowhere_else(tmp_path: Path, level: int):
    source = make_flat(tmp_path / "source.mp4", level, (360, 640), n_frames=40)
    out = rendered(source, FinishedCommentary(steps=[(0, 1, "Cyan pass"), (1, 2, "out right.")]))
    plain = grey_at(source, 0)
    for time_s, is_shown in ((0.0, False), (0.9, False), (1.0, True), (1.9, True), (3.9, True)):
        picture = grey_at(out, time_s)
        changed = np.abs(picture - plain) > 25
        assert inside(changed, (0.8, 0.95), (0.2, 0.8)).any() == is_shown
        assert not inside(changed, (0.0, 0.8), (0.0, 1.0)).any() and not inside(changed, (0.95, 1), (0, 1)).any()
        if is_shown:
            text = inside(picture, (0.87, 0.93), (0.4, 0.45))
            assert text.max() > 200 and np.median(text) < 100, "light letters on a dark box"
    early, late = (np.abs(grey_at(out, time_s) - plain) > 25 for time_s in (1.5, 2.5))
    assert np.flatnonzero(early.any(0)).max() < np.flatnonzero(late.any(0)).max() - 20, "words appear as they are said"
    assert np.flatnonzero(early.any(0)).min() == pytest.approx(np.flatnonzero(late.any(0)).min(), abs=2), "in place"


@pytest.mark.parametrize(
    ("size_hw", "stream"),
    [((640, 360), {}), ((2160, 3840), {"n_frames": 12, "fps": 6}), ((360, 640), {"rotation": 90}), ((96, 128), {}),
     ((576, 720), {"aspect": Fraction(16, 11)}), ((576, 720), {"aspect": Fraction(16, 11), "rotation": 270})],
    ids=str,
)  # fmt: skip
def test_captions_stay_inside_every_frame(tmp_path: Path, size_hw: tuple[int, int], stream: dict):
    text = "A long sentence that needs both lines of a caption, however wide the picture is"
    source = make_flat(tmp_path / "source.mp4", 200, size_hw, **{"n_frames": 20, **stream})
    out = rendered(source, FinishedCommentary(steps=[(0, 0.5, text)], questions=[(0.5, "Who has the ball?", "Cyan.")]))
    height, width = size_hw[::-1] if stream.get("rotation") else size_hw
    picture = grey_at(out, 1.7)
    assert picture.shape == (height, width)
    changed = np.abs(picture - 200) > 25
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert rows.min() > 0.03 * height and rows.max() < 0.97 * height, "free above and below"
    assert columns.min() > 0.02 * width and columns.max() < 0.98 * width, "free at the sides"
    assert inside(changed, (0.6, 0.97), (0.3, 0.7)).mean() > 0.15 and inside(changed, (0.0, 0.3), (0.3, 1)).any()
    with av.open(str(out)) as container:
        aspect = stream.get("aspect", Fraction(1))
        assert (container.streams.video[0].sample_aspect_ratio or 1) == (
            1 / aspect if stream.get("rotation") else aspect
        )


def test_font_sizes_follow_the_picture_and_the_flag(tmp_path: Path):
    source = make_flat(tmp_path / "source.mp4", 255, (360, 640), n_frames=15)
    heights = {}
    for size in (None, 14, 60, 300):
        changed = grey_at(rendered(source, options=RenderOptions(font_size=size)), 1.2) < 200
        heights[size] = int(changed.any(1).sum())
    assert heights[14] < heights[None] < heights[60] < heights[300]
    assert automatic_font_size(1920, 1080) == 54 and automatic_font_size(3840, 2160) == 108
    assert automatic_font_size(1080, 1920) == 67.5


def test_questions_and_answers_stand_as_bubbles(tmp_path: Path):
    source = make_flat(tmp_path / "source.mp4", 128, (360, 640), n_frames=100)
    asked = FinishedCommentary(questions=[(2.0, "What is the score?", "Nil one."), (10.0, "Who won?", "Cyan")])
    out = rendered(source, asked)
    for time_s, shown in ((1.9, ""), (2.1, "q"), (3.2, "qa"), (6.4, ""), (6.7, "q"), (9.8, "qa")):
        changed = np.abs(grey_at(out, time_s) - grey_at(source, 0)) > 20
        question, answer = inside(changed, (0.04, 0.15), (0.65, 1)), inside(changed, (0.16, 0.28), (0.4, 0.7))
        assert (question.any(), answer.any()) == ("q" in shown, "a" in shown), time_s
        assert not inside(changed, (0.5, 1), (0, 1)).any()
    without = rendered(source, asked, RenderOptions(chat=False))
    assert not (np.abs(grey_at(without, 3.2) - grey_at(source, 0)) > 20).any()


def test_a_held_frame_is_repeated_where_its_caption_changes(tmp_path: Path):
    times = [0, 0.1, 4.0, 4.1]
    source = make_video(tmp_path / "source.mp4", times_s=times, size_hw=(120, 200))
    ours = [float(t) for t in frame_times(rendered(source))]
    assert set(times) <= set(ours) and sorted(set(ours) - set(times)) == pytest.approx([1.0, 2.0], abs=0.002)


def test_the_video_decides_what_belongs_to_it(tmp_path: Path, caplog):
    source = make_flat(tmp_path / "source.mp4", 128, (120, 200), n_frames=20)
    rendered(
        source, FinishedCommentary(steps=[(0, 1, "a"), (1, 2.9, "last"), (30, 31, "b")], questions=[(40, "c", "d")])
    )
    assert "ends at 2.0 s: 2 steps and questions" in caplog.text


ODD_TEXTS = {
    "emoji": "👨‍👩‍👧‍👦 🏆 goal ⚽", "arabic": "الكرة في الوسط الآن!", "hebrew": "ניצחון: 3-0", "hindi": "नमस्ते दुनिया",
    "chinese": "球传到右路，射门得分了。", "marks": "e\u0301" * 40, "long": "W" * 400, "turned": "\u202eabc\u202c",
    "markup": "<script>alert(1)</script>", "invisible": "\u200d\ufe0f",
}  # fmt: skip


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS.keys())
def test_any_script_can_be_drawn(tmp_path: Path, text: str):
    source = make_flat(tmp_path / "source.mp4", 200, (180, 320), n_frames=15)
    rendered(source, FinishedCommentary(steps=[(0, 1, text)], questions=[(0.2, text, text)]))


def test_missing_glyphs_are_named(tmp_path: Path, caplog):
    from demo.render.fonts import choose_font, default_font

    assert choose_font("Größe, Ελλάδα, Москва, ניצחון, الكرة") == default_font() and not caplog.text
    choose_font("\U0001300c and \ue123", default_font())
    assert "DejaVuSans.ttf has no glyph for 2 characters" in caplog.text and "(U+E123)" in caplog.text
    bad = tmp_path / "no.ttf"
    bad.write_text("no font")
    for path in (bad, tmp_path / "none.ttf"):
        with pytest.raises(UserError, match=re.escape(str(path))):
            choose_font("a", path)


def test_words_of_right_to_left_scripts_begin_at_the_right():
    from demo.render.fonts import default_font
    from demo.render.timeline import Words

    painter = OverlayPainter(1280, 720, default_font())
    for line, begins_left in (("one two three", True), ("ניצחון גדול היום", False)):
        part, whole = (painter.words(Words(0, 1, (line,), 0, n)) for n in (5, 99))
        same_left = abs(part.x - whole.x) <= 1
        same_right = abs(part.x + part.picture.width - whole.x - whole.picture.width) <= 2
        assert (same_left, same_right) == (begins_left, not begins_left)


def test_progress_is_told_and_can_end_the_rendering(tmp_path: Path):
    source = make_video(tmp_path / "source.mp4", 40)
    told = []
    rendered(source, progress=lambda *numbers: told.append(numbers))
    assert told[-1] == (40, 40) and [n for n, _ in told[:-1]] == list(range(1, 41)) and {n for _, n in told} == {40}

    class Enough(Exception):
        pass

    def stop(n_done: int, n_all: int) -> None:
        if n_done == 20:
            raise Enough

    (tmp_path / "source_out.mp4").unlink()
    with pytest.raises(Enough):
        rendered(source, progress=stop)
    assert os.listdir(tmp_path) == ["source.mp4"]


def test_bad_input_is_said_and_leaves_nothing(tmp_path: Path):
    source, out = make_video(tmp_path / "source.mp4", 10), tmp_path / "out.mp4"
    (tmp_path / "fake.mp4").write_text("this is no video")
    (tmp_path / "empty.mp4").touch()
    for video, cause in (
        ("none.mp4", "no such file"),
        ("fake.mp4", "no video"),
        ("empty.mp4", "is empty"),
        (".", "folder"),
    ):
        with pytest.raises(UserError, match=cause):
            render(tmp_path / video, SAID, out)
    for target, options, cause in (
        (tmp_path / "out.avi", FINE, r"end in \.mp4"), (tmp_path / "no" / "out.mp4", FINE, "its folder is not there"),
        (source, FINE, "is the video itself"), (out, RenderOptions(crf=52), "--crf 52"),
        (out, RenderOptions(font_size=1), "--font_size 1"), (out, RenderOptions(font="none.ttf"), "no such file"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=cause):
            render(source, SAID, target, options, overwrite=True)
    link = tmp_path / "link.mp4"
    link.symlink_to(source)
    with pytest.raises(UserError, match="is the video itself"):
        render(source, SAID, link, overwrite=True)
    out.write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        render(source, SAID, out)
    assert out.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"source.mp4", "fake.mp4", "empty.mp4", "link.mp4", "out.mp4"}


def test_a_video_cut_short_is_rendered_as_far_as_it_goes(tmp_path: Path):
    whole = make_video(tmp_path / "whole.mkv", 75)
    source = tmp_path / "source.mkv"
    source.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert 20 < len(frame_times(rendered(source))) < 75


COMMAND = [sys.executable, str(REPOSITORY / "demo" / "render" / "video.py")]


def write_commentary(folder: Path) -> Path:
    path = folder / "said.json"
    path.write_text(SAID.to_json())
    return path


def test_the_command_renders_and_says_what_is_wrong_in_one_line(tmp_path: Path, capsys):
    source, said = make_video(tmp_path / "a b.mp4", 30), write_commentary(tmp_path)
    assert main([str(source), str(said), str(tmp_path / "out.mp4"), "--crf", "30"]) == 0
    assert len(frame_times(tmp_path / "out.mp4")) == 30 and not capsys.readouterr().err
    done = subprocess.run(
        [*COMMAND, source, said, tmp_path / "out.mp4"], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path}/out.mp4: is there already; give another name, or --overwrite\n"


def test_a_kill_leaves_no_output_and_the_next_run_no_trace_of_it(tmp_path: Path):
    said, out = write_commentary(tmp_path), tmp_path / "out.mp4"
    process = subprocess.Popen([*COMMAND, REPOSITORY / "demo" / "sources" / "match_1.mp4", said, out])
    while not list(tmp_path.glob(".out.mp4.*")):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists() and len(list(tmp_path.glob(".out.mp4.*.partial"))) == 1
    small = make_video(tmp_path / "small.mp4", 5)
    render(small, SAID, out)
    assert sorted(os.listdir(tmp_path)) == ["out.mp4", "said.json", "small.mp4"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path):
    source, said, out = (
        make_video(tmp_path / "source.mp4", 75, size_hw=(360, 640)),
        write_commentary(tmp_path),
        tmp_path / "out.mp4",
    )

    def limit() -> None:  # writing more than 64 kB to a file fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    done = subprocess.run(
        [*COMMAND, source, said, out], capture_output=True, text=True, timeout=PATIENCE_S, preexec_fn=limit
    )
    assert done.returncode == 2 and f"error: {out}: cannot be written (File too large)" in done.stderr, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["said.json", "source.mp4"]
