"""Video on standard input."""

import os
import select
import sys
from dataclasses import replace
from threading import Event

from av.container import InputContainer

from data.sources.reconnection import Reconnection
from data.sources.spec import SourceSpec
from data.sources.stream import POLL_S, StreamSource
from data.video.container import open_container
from data.video.live import FrameMaker


class Pipe:
    """A file descriptor as the file object that PyAV reads; `stopped` ends a read that waits for data."""

    def __init__(self, descriptor: int, stopped: Event):
        self._descriptor, self._stopped = descriptor, stopped

    def read(self, n_bytes: int) -> bytes:
        """Return up to n_bytes, nothing at the end."""
        while not self._stopped.is_set():
            if sys.platform == "win32" or select.select([self._descriptor], [], [], POLL_S)[0]:
                return os.read(self._descriptor, n_bytes)
        return b""


def open_pipe(
    spec: SourceSpec, make_frame: FrameMaker, reconnection: Reconnection, descriptor: int | None = None
) -> StreamSource:
    """Open standard input (or another file descriptor): containers that can be read in one go, or bare frames.

    It is read no faster than frames are taken, and none is dropped: the writer waits. A writer that pauses is waited
    for; when it is gone, that is the end. Nothing is opened twice.
    """
    descriptor = sys.stdin.fileno() if descriptor is None else descriptor

    def connect(stopped: Event) -> InputContainer:
        return open_container(Pipe(descriptor, stopped), spec.name, format=spec.format, options=spec.options)

    once = replace(reconnection, stall_s=float("inf"), max_retries=0)
    return StreamSource(spec.name, connect, make_frame, once, eof_is_end=True, paces=False, waits=True)
