"""A source on standard input."""

import contextlib
import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from data.sources.pipe import open_pipe
from data.sources.spec import parse_spec
from data.sources.stream import N_HELD, StreamSource
from data.video.container import VideoError
from data.video.live import FrameMaker
from tests.sources import LIMITS, QUICK, times_of, wait_until
from tests.videos import frame_number, make_video


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
        wait_until(lambda: len(source._held) == N_HELD)  # the reader fills its memory and waits
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
        source.close()
        assert list(source) == []
        wait_until(lambda: not source._supervisor.is_alive())


def test_a_pipe_that_holds_no_video():
    with piped() as (source, writing):
        write_all(writing, b"no video " * 1000)
        with pytest.raises(VideoError, match=r"standard input: Invalid data.*; check"):
            list(source)
