"""Streams, playlists and files on servers."""

from threading import Event

from av.container import InputContainer

from data.sources.reconnection import Reconnection
from data.sources.spec import SourceSpec
from data.sources.stream import StreamSource
from data.video.container import open_container
from data.video.live import FrameMaker


def open_url(spec: SourceSpec, make_frame: FrameMaker, reconnection: Reconnection) -> StreamSource:
    """Open a stream, playlist or file on a server: played at its own pace, also where it could be read faster.

    Over HTTP an answer that is complete is the end (a file, an HLS playlist with its end tag), and one that breaks
    off, or an HLS playlist without its end tag that is no longer there, is lost; a file is then taken up where it was
    left. RTSP and RTMP have no end: the server is gone.
    FFmpeg gives up a read slightly after we do (reconnection.stall_s), so that its thread does not stay.
    """

    def connect(_: Event) -> InputContainer:
        return open_container(spec.address, spec.name, options=spec.options, timeout=reconnection.stall_s + 1)

    over_http = spec.scheme in ("http", "https")
    return StreamSource(spec.name, connect, make_frame, reconnection, eof_is_end=over_http, paces=True)
