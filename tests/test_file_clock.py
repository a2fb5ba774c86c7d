"""One clock for every file: whatever its container, offset, wraps and jumps, pictures and sounds keep their seconds."""

import logging
import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.sources.pipe import open_pipe
from data.sources.spec import parse_spec
from data.video.clip import VideoFile, live_frames, read_clip
from data.video.file_clock import GAP_S, zero_s
from data.video.live import FrameMaker
from data.video.sound import read_sound
from tests.sounds import RATE, make_sounding_video, onsets_s, ticks
from tests.sources import LIMITS, QUICK
from tests.videos import frame_number, make_video, numbered_frame, read_with_opencv

WRAP_S = 2**33 / 90000
FPS = 10
PART_S = 4.0


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> list[Path]:
    """Films of 4 s with sound, whose frames carry numbers that go on from one to the next, and their tones too."""
    folder = tmp_path_factory.mktemp("Teile ß")
    return [
        make_sounding_video(folder / f"Teil {n}.mp4", ticks(PART_S + 0.1), seconds=PART_S, fps=FPS, first=n * 40)
        for n in range(3)
    ]


def remuxed(source: Path, path: Path, start_s: float = 0.0, **options: str) -> Path:
    """The packets of a film in another container, whose clock begins at start_s; no encoding."""
    options |= {"mpegts_copyts": "1"} if path.suffix == ".ts" else {}
    with av.open(str(source)) as read, av.open(str(path), "w", options=options) as written:
        streams = {one.index: written.add_stream_from_template(one) for one in read.streams}
        for packet in read.demux():
            if packet.dts is None:
                continue
            packet.stream = streams[packet.stream.index]
            shift = round(Fraction(start_s) / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            written.mux(packet)
    return path


def joined(parts: list[Path], starts_s: list[float], path: Path) -> Path:
    """Films one after the other in one file, each with a clock that begins at its own number."""
    pieces = [
        remuxed(part, path.with_name(f"{n}{path.suffix}"), start_s).read_bytes()
        for n, (part, start_s) in enumerate(zip(parts, starts_s, strict=True))
    ]
    path.write_bytes(b"".join(pieces))
    return path


def readings(path: Path) -> dict[str, dict[float, int]]:
    """The number of the frame that each reader gives at each half second."""
    clip = read_clip(path, 0.0, limits=LIMITS)
    clip_numbers = [frame_number(frame.numpy()) for frame in clip.frames][: len(clip.times_s) - clip.plan.n_padded]
    read = {"clip": dict(zip(clip.times_s.tolist(), clip_numbers, strict=False))}
    read["live"] = {item.time_s: frame_number(item.frame.numpy()) for item in live_frames(path, limits=LIMITS)}
    later = live_frames(path, limits=LIMITS, start_s=2.5)
    read["live from 2.5 s"] = {item.time_s: frame_number(item.frame.numpy()) for item in later}
    return read


def pipe_reading(path: Path) -> dict[float, int]:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as file:
            file.write(path.read_bytes())

    threading.Thread(target=write, daemon=True).start()
    source = open_pipe(parse_spec("-"), FrameMaker("-", LIMITS, False), QUICK, reading)
    try:
        return {item.time_s: frame_number(item.frame.numpy()) for item in source}
    finally:
        source.close()


def check(path: Path, n_parts: int, pipe: bool = True) -> None:
    """The k-th tenth of a second shows frame k in every reader, and tones are where their seconds are."""
    read = readings(path)
    if pipe:
        read["pipe"] = pipe_reading(path)
    for reader, numbers in read.items():
        first_s = 2.5 if "from" in reader else 0.0
        times_s = sorted(numbers)
        assert times_s[0] == first_s and times_s[-1] >= n_parts * PART_S - 1, (reader, times_s)
        assert np.allclose(np.diff(times_s), 0.5), reader
        for time_s, number in numbers.items():  # a part's sound may begin a block before its pictures
            assert -2.5 <= number - time_s * FPS <= 0.5, (reader, time_s, number)
    found = onsets_s(read_sound(path))
    wanted = [second + part * PART_S for part in range(n_parts) for second in range(4)]
    near = [min(abs(onset - second) for onset in found) for second in wanted if second % PART_S]
    assert max(near) < 0.1 * n_parts, found
    window = read_sound(path, 2.5, 3.5)
    assert len(window) == RATE and min(abs(onset - 0.5) for onset in onsets_s(window)) < 0.1


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv", "ts"])
@pytest.mark.parametrize("start_s", [0.0, 1.4])
def test_containers_agree(parts, tmp_path, suffix, start_s):
    check(remuxed(parts[0], tmp_path / f"Spiel.{suffix}", start_s), 1, pipe=suffix != "mp4")


@pytest.mark.parametrize("start_s", [26000.0, WRAP_S - 20, WRAP_S - 2.5, WRAP_S - 0.05])
def test_clocks_of_broadcasts(parts, tmp_path, start_s):
    """A recorder's clock of hours, and one of 33 bits that wraps before, in or right at the start of the film."""
    path = remuxed(parts[0], tmp_path / "Sendung.ts", start_s)
    check(path, 1)
    with VideoFile(path) as video:
        assert len(video.table) == 40 and not video.listing.cut_short
        assert video.table.first_s < 0.1 and video.table.last_s == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize(
    "starts_s",
    [[1, 1, 1], [2.4, 1, 2.4], [5, 105, 2], [100, 104, 50000], [1, 21, 41], [WRAP_S - 6, WRAP_S - 2, 0.5]],
    ids=["joined", "restarted", "ahead and back", "far ahead", "gaps", "over the wrap"],
)
def test_joined_transport_streams_play_every_part(parts, tmp_path, starts_s, caplog):
    path = joined(parts, starts_s, tmp_path / "alles.ts")
    with caplog.at_level(logging.WARNING):
        check(path, 3)
    with VideoFile(path) as video:
        assert len(video.table) == 120 and not video.listing.cut_short
        every = video.read(np.arange(120))
    assert [frame_number(frame.numpy()) for frame in every] == list(range(120))
    assert np.array_equal(every.numpy(), read_with_opencv(path))
    if starts_s != [WRAP_S - 6, WRAP_S - 2, 0.5]:
        assert "its clock jumps from" in caplog.text and "where the pictures had got to" in caplog.text


def test_joined_matroska_files_play_every_part(parts, tmp_path):
    check(joined(parts[:2], [1, 1], tmp_path / "zwei.mkv"), 2)


@given(offset=st.floats(1, 95000), jumps=st.lists(st.floats(-90000, 90000), min_size=2, max_size=2))
@settings(max_examples=6, deadline=None, derandomize=True, database=None)
def test_any_clock_gives_the_same_film(parts, tmp_path_factory, offset, jumps):
    """Jumps of less than the gap are kept as pauses; all others are closed."""
    starts_s, at = [], offset
    for jump in (0.0, *jumps):
        at = at + jump if abs(jump) > GAP_S + PART_S else at
        at = at if 1 <= at < WRAP_S - 10 else 100.0
        starts_s.append(at)
        at += PART_S
    check(joined(parts, starts_s, tmp_path_factory.mktemp("any") / "a.ts"), 3, pipe=False)


def test_a_pause_shorter_than_the_gap_stays(parts, tmp_path):
    path = joined(parts[:2], [1, 10], tmp_path / "pause.ts")  # 5 s without packets
    read = readings(path)["live"]
    assert read[8.5] == 39 and read[9.5] in (44, 45) and len(read) in (26, 27)


def with_a_wrong_number(source: Path, path: Path, stream_id: int) -> Path:
    """A transport stream in which the 17th packet of a stream says hours more (PES header of ISO/IEC 13818-1)."""
    data, at = bytearray(source.read_bytes()), -1
    for _ in range(17):
        at = data.index(bytes([0, 0, 1, stream_id]), at + 1)
    for field in (at + 9, at + 14)[: 2 if data[at + 7] & 0x40 else 1]:
        data[field] ^= 0b0100  # bit 31 of 33: 2 ** 31 / 90000 s
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("stream_id", [0xE0, 0xC0], ids=["picture", "sound"])
def test_a_wrong_number_in_one_packet_moves_nothing(parts, tmp_path, stream_id):
    """Other pictures stay where they are, and sound does after a moment."""
    whole = remuxed(parts[0], tmp_path / "gesund.ts", 1.0)
    broken = with_a_wrong_number(whole, tmp_path / "krank.ts", stream_id)
    tables = []
    for path in (whole, broken):
        with VideoFile(path) as video:
            tables.append(set(video.table.start_ticks.tolist()))
    assert len(tables[0]) == 40 and len(tables[0] - tables[1]) <= 2 * (stream_id == 0xE0)
    off = np.abs(read_sound(whole)[: 4 * RATE] - read_sound(broken)[: 4 * RATE])
    assert off[:RATE].max() < 1e-6 and off[2 * RATE :].max() < 1e-6


def test_slides_are_no_jump(tmp_path):
    """A picture every 20 s, as the author meant it: MP4 and Matroska state no sender's clock."""
    for suffix in ("mp4", "mkv"):
        path = make_video(tmp_path / f"Folien.{suffix}", times_s=[0, 20, 40], fps=1, b_frames=0)
        read = {item.time_s: frame_number(item.frame.numpy()) for item in live_frames(path, limits=LIMITS)}
        assert (read[5.0], read[19.5], read[20.0], read[39.5]) == (0, 0, 1, 1)
        clip = read_clip(path, 5.0, 35.0, limits=LIMITS)
        assert clip.times_s[0] == 5.0 and frame_number(clip.frames[0].numpy()) == 0
        assert frame_number(clip.frames[-2].numpy()) == 1


def test_the_codecs_run_in_is_not_the_films_start(parts, tmp_path):
    """AAC in Matroska begins a block before 0, as Opus in WebM does; the pictures stay where they are."""
    path = remuxed(parts[0], tmp_path / "a.mkv", avoid_negative_ts="disabled")
    with av.open(str(path)) as container:
        assert container.start_time < 0 <= container.streams.video[0].start_time and zero_s(container) == 0
    with VideoFile(path) as video:
        assert video.table.first_s == 0


@pytest.mark.parametrize(("dispositions", "wanted"), [((0, 1), 1), ((1, 0), 0), ((0, 0), 1), ((1, 1), 1)])
def test_the_default_stream_then_the_largest(tmp_path, dispositions, wanted):
    """Two films in one file, the second of twice the pixels, with sounds of one and two channels."""
    path = tmp_path / "zwei.mkv"
    with av.open(str(path), "w") as container:
        films = [container.add_stream("libx264", rate=FPS, options={"threads": "1"}) for _ in range(2)]
        sounds = [container.add_stream("pcm_s16le", rate=RATE, layout=layout) for layout in ("mono", "stereo")]
        for film, size_hw in zip(films, ((72, 160), (144, 320)), strict=True):
            (film.height, film.width), film.pix_fmt = size_hw, "yuv420p"
        for one, is_default in zip((*films, *sounds), dispositions * 2, strict=True):
            one.disposition = av.stream.Disposition.default if is_default else av.stream.Disposition(0)
        for number in range(10):
            for film, first in zip(films, (0, 500), strict=True):
                frame = av.VideoFrame.from_ndarray(numbered_frame(first + number, film.height, film.width), "rgb24")
                frame.pts = number
                container.mux(film.encode(frame))
        for sound, loud in zip(sounds, (0.1, 0.5), strict=True):
            layout = sound.layout.name
            samples = np.full((1, RATE * sound.codec_context.channels), loud * 32767, np.int16)
            piece = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
            piece.rate, piece.pts = RATE, 0
            container.mux(sound.encode(piece))
        for one in (*films, *sounds):
            container.mux(one.encode())
    with VideoFile(path) as video:
        assert frame_number(video.read(np.array([3]))[0].numpy()) == 3 + 500 * wanted
    assert (np.abs(read_sound(path)).max() > 0.3) == bool(wanted)


def test_sound_that_changes_on_the_way_is_read_on(tmp_path):
    """Mono at 16 kHz, then six channels at 44.1 kHz, as at the joint of an advertisement."""
    pieces = []
    for n, (layout, rate) in enumerate((("mono", 16000), ("5.1", 44100))):
        piece = tmp_path / f"{n}.ts"
        with av.open(str(piece), "w", options={"mpegts_copyts": "1"}) as container:
            video = container.add_stream("libx264", rate=FPS, options={"threads": "1"})
            (video.height, video.width), video.pix_fmt = (72, 160), "yuv420p"
            sound = container.add_stream("aac", rate=rate, layout=layout)
            for number in range(20):
                frame = av.VideoFrame.from_ndarray(numbered_frame(20 * n + number, 72, 160), "rgb24")
                frame.pts = 10 + 20 * n + number
                container.mux(video.encode(frame))
            container.mux(video.encode())
            tones = ticks(2.0, rate)
            for at in range(0, len(tones) - 1024, 1024):
                samples = np.repeat(tones[None, at : at + 1024], sound.codec_context.channels, 0)
                part = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
                part.rate, part.time_base, part.pts = rate, Fraction(1, rate), at + (1 + 2 * n) * rate
                container.mux(sound.encode(part))
            container.mux(sound.encode())
        pieces.append(piece.read_bytes())
    path = tmp_path / "wechsel.ts"
    path.write_bytes(b"".join(pieces))
    found = read_sound(path)
    assert len(found) == pytest.approx(4 * RATE, abs=RATE / 5)
    assert onsets_s(found) == pytest.approx([0, 1, 2, 3], abs=0.1)
    assert onsets_s(read_sound(path, 1.5, 3.5)) == pytest.approx([0.5, 1.5], abs=0.1)
