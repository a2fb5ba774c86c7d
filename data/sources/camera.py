"""Cameras, and pictures that FFmpeg draws in place of one."""

from threading import Event

from av.container import InputContainer

from data.sources.reconnection import Reconnection
from data.sources.spec import SourceSpec
from data.sources.stream import StreamSource
from data.video.container import open_container
from data.video.live import FrameMaker


def open_camera(spec: SourceSpec, make_frame: FrameMaker, reconnection: Reconnection) -> StreamSource:
    """Open a camera, or a picture that FFmpeg draws.

    A camera that ends was unplugged, and counts as lost. A drawn picture comes at any speed, so it is paced; its end is
    the end.
    """

    def connect(_: Event) -> InputContainer:
        return open_container(
            spec.address, spec.name, format=spec.format, options=spec.options, timeout=reconnection.stall_s + 1
        )

    drawn = spec.kind == "lavfi"
    return StreamSource(spec.name, connect, make_frame, reconnection, eof_is_end=drawn, paces=drawn)
