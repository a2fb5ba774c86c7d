"""A source that keeps its own time - camera, URL, pipe - read in a thread of its own, and opened again when lost."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

import av

from data.sources.reconnection import Reconnection
from data.sources.source import Source
from data.sources.timeline import ArrivalTimes, Grid, StatedTimes, Timeline
from data.video.container import FFMPEG_ERRORS, VideoError, decode_packet, frame_ticks, reason, video_stream
from data.video.file_clock import FileClock
from data.video.live import FrameMaker, TimedFrame

N_HELD = 20  # frames that wait to be taken: 10 s
POLL_S = 0.05
END_SLACK_S = 0.5  # a file whose last frame lies this close to its stated end has been read to the end

Connect = Callable[[threading.Event], av.container.InputContainer]


class Picture(NamedTuple):
    """A decoded frame, and the width of its pixels over their height."""

    frame: av.VideoFrame
    pixel_aspect: Fraction | None


class StreamSource(Source):
    """A live source. Its first frame is at 0 s; data/sources/timeline.py says when the others are.

    connect: opens the stream; its argument is set when the connection is given up.
    eof_is_end: whether a stream that ends in order is over, or lost.
    paces: hold a frame back until its time has come, for streams that can be read faster than they play.
    waits: when N_HELD frames wait to be taken, stop reading, instead of dropping the oldest and counting it. What can
    wait is read as a file, whose own times hold (data/video/file_clock.py).
    monotonic: the wall clock.

    Stalls: when opening takes longer than `reconnection.stall_s`, or no frame comes for so long, or reading fails,
    the stream is lost: it is closed and opened again. Meanwhile no frames are given; grid times of the interruption
    are left out, no picture is frozen; afterwards times go on with the time that has really passed. Before the first
    frame a failure is a VideoError at once. A frame too damaged to decode is left out.
    """

    is_live = True

    def __init__(
        self,
        name: str,
        connect: Connect,
        make_frame: FrameMaker,
        reconnection: Reconnection,
        *,
        eof_is_end: bool,
        paces: bool,
        waits: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ):
        super().__init__(name)
        self.connect, self.reconnection = connect, reconnection
        self.eof_is_end, self.paces, self.waits = eof_is_end, paces, waits
        self._make_frame, self.monotonic = make_frame, monotonic
        self._timeline, self._grid = StatedTimes() if waits else Timeline(), Grid()
        self._taking = threading.Lock()  # one connection at a time moves the timeline and the grid
        self._changed = threading.Condition()  # guards what follows
        self._held: deque[TimedFrame] = deque()
        self._over, self._failure, self._begun = False, None, False
        self._closing = threading.Event()
        self._supervisor = None
        self.zero: float | None = None  # monotonic() of the first frame
        self.last_stamp_s: float | None = None
        self._lost_at: float | None = None

    def now(self) -> float:
        """Seconds since the first frame arrived; 0 before."""
        return 0.0 if self.zero is None else self.monotonic() - self.zero

    @property
    def has_ended(self) -> bool:
        """Whether no frame will come any more."""
        with self._changed:
            return self._over and not self._held

    def __iter__(self) -> Iterator[TimedFrame]:
        while (frame := self.next_frame(None)) is not None:
            yield frame

    def next_frame(self, timeout_s: float | None) -> TimedFrame | None:
        """Return the oldest frame not yet taken, waiting for it; None: none within timeout_s, or the end.

        The first call opens the stream. Raises VideoError where the stream is lost for good.
        """
        with self._changed:
            if self._supervisor is None and not self._over:
                self._supervisor = threading.Thread(target=self._supervise, name=f"source {self.name}", daemon=True)
                self._supervisor.start()
            self._changed.wait_for(lambda: self._held or self._over, timeout_s)
            if self._held:
                frame = self._held.popleft()
                self._changed.notify_all()
                return frame
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return None

    def close(self) -> None:
        """Close the source. A connection that hangs is left to its thread, which ends with its next time-out."""
        self._closing.set()
        with self._changed:
            self._held.clear()
        self._finish(None)

    def keep_arrival_times(self) -> None:
        """Give frames the times of their arrival: the stream turned out to state none."""
        with self._taking:
            if not isinstance(self._timeline, ArrivalTimes):
                self._timeline = ArrivalTimes()

    def take(self, connection: "Connection", picture: "Picture", stamp_s: float | None, lasts_s: float) -> None:
        """Take a decoded frame, its own time and duration, from the connection that is being read."""
        with self._taking:
            if connection.stopped.is_set():
                return
            self.zero = connection.heard_at if self.zero is None else self.zero
            now_s = connection.heard_at - self.zero
            if self._lost_at is not None:
                self.events.put(f"back after {now_s - self._lost_at:.1f} s")
                self._lost_at = None
            placed = self._timeline.place(stamp_s, lasts_s, now_s, connection.idle_s)
            self.last_stamp_s = stamp_s
        if self.paces:
            connection.rest(lambda: placed.time_s - self.now())
        with self._taking:
            if not connection.stopped.is_set():
                self._give(connection, self._grid.add(picture, placed, lasts_s))

    def _give(self, connection: "Connection | None", given: list[tuple[float, "Picture"]]) -> None:
        for time_s, picture in given:
            timed = TimedFrame(time_s, self._make_frame(picture.frame, time_s, picture.pixel_aspect))
            self._begun = True
            if self.waits and connection is not None:
                connection.rest(lambda: POLL_S if len(self._held) >= N_HELD else 0.0)
            with self._changed:
                if self._over:
                    return
                if len(self._held) >= N_HELD and not self.waits:
                    self._held.popleft()
                    self.n_dropped += 1
                self._held.append(timed)
                self._changed.notify_all()

    def _supervise(self) -> None:
        failure = None
        try:
            self._receive()
        except Exception as error:  # whatever it is, it belongs to the one who waits for frames
            failure = error
        self._finish(failure)

    def _finish(self, failure: Exception | None) -> None:
        with self._changed:
            if not self._over:
                self._over, self._failure = True, failure
            self._changed.notify_all()

    def _receive(self) -> None:
        """Read one connection after the other, until the end, close(), or the last retry."""
        n_failed = 0
        while not self._closing.is_set():
            connection = Connection(self)
            lost = self._watch(connection)
            if lost is None:
                return
            if not self._begun:
                raise VideoError(f"{self.name}: {lost}; check that it is there, is sending, and holds video")
            n_failed = 1 if connection.n_frames else n_failed + 1
            most = self.reconnection.max_retries
            if most is not None and n_failed > most:
                raise VideoError(f"{self.name}: lost for good at {self.now():.1f} s, after {most} retries: {lost}")
            wait_s = self.reconnection.wait_s(n_failed)
            self.events.put(f"lost: {lost}; trying again in {wait_s:g} s")
            self._closing.wait(wait_s)

    def _watch(self, connection: "Connection") -> str | None:
        """Wait until a connection is over; return how it was lost, None where that is as it should be."""
        connection.start()
        lost = None
        while not self._closing.is_set():
            if connection.ended.wait(POLL_S):
                lost = connection.lost
                break
            if connection.silent_s() > self.reconnection.stall_s:
                lost = f"nothing arrived for {self.reconnection.stall_s:g} s"
                break
        connection.stopped.set()
        with self._taking:  # the last picture was on screen up to its end
            self._give(None, self._grid.end())
            self._timeline.disconnect()
            if lost is not None and connection.n_frames:
                self._lost_at = connection.heard_at - (self.zero or 0.0)
        return lost


class Connection(threading.Thread):
    """One connection, read until it ends, fails or is given up (`stopped`)."""

    def __init__(self, source: StreamSource):
        super().__init__(name=f"connection of {source.name}", daemon=True)
        self._source = source
        self.stopped, self.ended = threading.Event(), threading.Event()
        self.lost: str | None = None  # how it failed
        self.n_frames = 0
        self.idle_s = 0.0  # time spent waiting for the stream
        self.heard_at = self._source.monotonic()  # when a frame came last, or we made the stream wait
        self._rests = False

    def silent_s(self) -> float:
        """Seconds without a frame while one could have been taken."""
        return 0.0 if self._rests else self._source.monotonic() - self.heard_at

    def rest(self, remaining_s: Callable[[], float]) -> None:
        """Make the stream wait while remaining_s() is above 0, unless this connection is given up."""
        self._rests = True
        while (remaining := remaining_s()) > 0 and not self.stopped.wait(min(remaining, POLL_S)):
            pass
        self.heard_at, self._rests = self._source.monotonic(), False

    def run(self) -> None:
        """Read the connection; `lost` and `ended` say how it went."""
        try:
            self._read()
        except VideoError as error:
            self.lost = str(error).removeprefix(f"{self._source.name}: ")
        except FFMPEG_ERRORS as error:
            self.lost = reason(error)
        except Exception as error:
            self.lost = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.ended.set()

    def _read(self) -> None:
        with self._source.connect(self.stopped) as container:
            stream = video_stream(container)
            if _states_no_times(container) and not self._source.waits:
                self._source.keep_arrival_times()
            seen_s = self._resume(container, stream)
            try:
                for frame in self._frames(container, stream):
                    self._take(frame, stream, seen_s)
            except FFMPEG_ERRORS:
                if not self._reached_end(container, stream):
                    raise
            else:
                self.lost = "the stream ended" if self._ends_early(container, stream) else None

    def _frames(self, container, stream) -> Iterator[av.VideoFrame]:
        clock = FileClock(container, self._source.name)
        packets = clock.packets(stream) if self._source.waits else container.demux(stream)
        while not self.stopped.is_set():
            asked = self._source.monotonic()
            packet = next(packets, None)
            self.idle_s += self._source.monotonic() - asked
            if packet is None:
                return
            yield from decode_packet(stream.codec_context, packet if packet.size else None, self._source.name)

    def _take(self, frame: av.VideoFrame, stream, seen_s: float | None) -> None:
        if frame.is_corrupt or self.stopped.is_set():
            return
        self.heard_at = self._source.monotonic()
        stamp_s = None if frame.pts is None else float(frame.pts * stream.time_base)
        if seen_s is not None and stamp_s is not None and stamp_s <= seen_s:
            return
        self.n_frames += 1
        lasts_s = float((frame.duration or frame_ticks(stream)) * stream.time_base)
        self._source.take(self, Picture(frame, stream.sample_aspect_ratio), stamp_s, lasts_s)

    def _resume(self, container, stream) -> float | None:
        """Seek to where a file on a server was lost; return the stamp up to which its frames were given."""
        seen_s = self._source.last_stamp_s
        if seen_s is None or not self._is_file(container):
            return None
        with contextlib.suppress(*FFMPEG_ERRORS):  # a server that cannot seek sends it all again
            container.seek(int(seen_s / stream.time_base), stream=stream)
        return seen_s

    def _is_file(self, container) -> bool:
        return self._source.eof_is_end and bool(container.duration)

    def _ends_early(self, container, stream) -> bool:
        """Whether a stream that ended in order has in truth been lost.

        FFmpeg also ends an HLS playlist so when its server is gone. One without an end tag has no end; one with it
        ends at its stated length, or where going there again brings no further frame (stated lengths are rounded).
        """
        if not self._source.eof_is_end or container.format.name != "hls":
            return not self._source.eof_is_end
        return not container.duration or (self.n_frames > 0 and not self._reached_end(container, stream))

    def _reached_end(self, container, stream) -> bool:
        """Whether the last frame of a file has come: an HTTP answer of unknown length just breaks off there."""
        if not self._is_file(container) or self._source.last_stamp_s is None:
            return False
        end_s = ((container.start_time or 0) + container.duration) / av.time_base
        return self._source.last_stamp_s >= end_s - END_SLACK_S


def _states_no_times(container: av.container.InputContainer) -> bool:
    """Whether FFmpeg makes up the times of what it reads, and it is no file, which has a size."""
    return bool(container.format.flags & av.format.Flags.no_timestamps.value) and container.size <= 0
