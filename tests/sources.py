"""Sources as tests ask for them: a web server on the loopback with small videos, limits, and what came."""

import contextlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from data.sources.reconnection import Reconnection
from data.sources.source import Source
from data.video.frame_plan import VideoLimits
from tests.videos import make_faststart, make_video
from tests.waiting import until

LIMITS = VideoLimits(min_pixels=784, max_pixels=16 * 784)
# Long enough that a busy machine is not taken for a stalled server.
QUICK = Reconnection(stall_s=5, first_wait_s=0.1, longest_wait_s=0.2)

Answer = Callable[[BaseHTTPRequestHandler, int], None]


def make_served(folder: Path) -> Path:
    """two.mp4 and two.ts: two seconds at 25 frames a second; an HLS playlist of the same with its segments."""
    make_faststart(folder / "two.mp4", n_frames=50, gop=10, b_frames=0)
    make_video(folder / "two.ts", 50, gop=10, b_frames=0)
    hls = {"hls_time": "0.4", "hls_playlist_type": "vod", "hls_list_size": "0"}
    make_video(folder / "list.m3u8", 50, gop=10, b_frames=0, container_options=hls)
    return folder


class Served:
    """A web server on the loopback: a folder, and paths that a function answers (its argument: the count of calls)."""

    def __init__(self, folder: Path, answers: dict[str, Answer] | None = None, port: int = 0):
        self.asked: list[str] = []
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served.asked.append(self.path)
                answer = (answers or {}).get(self.path)
                with contextlib.suppress(OSError):
                    if answer:
                        answer(self, served.asked.count(self.path))
                    elif (folder / self.path[1:]).is_file():
                        send(self, (folder / self.path[1:]).read_bytes())
                    else:
                        self.send_error(404)

            def log_message(self, *_) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{path}"

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()


def send(handler: BaseHTTPRequestHandler, body: bytes, length: int | None = None) -> None:
    """Answer with a body that is said to be `length` bytes long."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def times_of(frames) -> list[float]:
    return [frame.time_s for frame in frames]


def events_of(source: Source) -> list[str]:
    return [source.events.get() for _ in range(source.events.qsize())]


def wait_until(done: Callable[[], bool]) -> None:
    until(done)
