"""The videos that viewers may open: the operator's examples, and what each viewer has uploaded.

A browser names a video by an id that this server made; file names of people are shown and never used as paths.
"""

import contextlib
import io
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import psutil
from PIL import Image

from data.video.container import list_frames, open_video, video_stream
from data.video.frame_plan import VideoLimits
from data.video.live import live_frames
from demo.live.api_error import ApiError
from utils.errors import UserError

log = logging.getLogger(__name__)

PREFIX = "livecc_page_"
FREE_BYTES = 2**30  # of the disk that uploads leave free
MOST_PIXELS = 8192 * 4320
NAME_CHARACTERS = 120
MOST_FILES = 128  # uploads and drawn videos that lie here at once
THUMBNAIL_WIDTH = 320
PLAYED = "MP4, MOV, WebM, MKV, AVI, MPEG-TS or Ogg"
# How files of containers that hold their own pictures begin. Playlists, subtitles and lists of other files, which make
# FFmpeg open what they name, begin otherwise.
MAGIC = (
    (4, b"ftyp", "video/mp4"), (4, b"moov", "video/mp4"), (4, b"mdat", "video/mp4"), (4, b"wide", "video/mp4"),
    (0, b"\x1a\x45\xdf\xa3", "video/webm"), (0, b"OggS", "video/ogg"), (8, b"AVI ", "video/x-msvideo"),
    (0, b"\x47", "video/mp2t"),
)  # fmt: skip
# What FFmpeg must then take them for.
FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "ogg", "avi", "mpegts"}


@dataclass(frozen=True)
class Video:
    """A file that can be watched. owner: the browser that uploaded it; None: everybody's."""

    id: str
    name: str  # for people
    path: Path
    media_type: str
    duration_s: float
    width: int
    height: int
    owner: str | None = None
    since_s: float = field(default_factory=time.monotonic)

    def record(self) -> dict:
        """Record of the video for the page."""
        return {
            "id": self.id, "name": self.name, "url": f"/live/media/{self.id}", "poster": f"/live/thumbnails/{self.id}",
            "duration_s": round(self.duration_s, 3), "width": self.width, "height": self.height,
        }  # fmt: skip


class Videos:
    """Examples and uploads. Uploads lie in a folder of this process, which `close` removes."""

    def __init__(self, examples: list[str], max_bytes: int, max_s: float):
        self.max_bytes, self.max_s = max_bytes, max_s
        self._videos: dict[str, Video] = {}
        for path in examples:
            video = inspect_example(path, f"example{len(self._videos) + 1}")
            self._videos[video.id] = video
        self.examples = list(self._videos.values())
        _remove_killed_uploads()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}_"))
        self._thumbnails: dict[str, bytes] = {}

    def get(self, video_id: str, owner: str) -> Video:
        """The video of an id. Raises ApiError where it is not this owner's, in the same words as where it is none."""
        video = self._videos.get(video_id)
        if video is None or video.owner not in (None, owner):
            raise ApiError(
                404, f"video {video_id[:40]!r} is not here", cause="it was removed, or never uploaded by you",
                next_step="choose an example or upload a video",
            )  # fmt: skip
        return video

    async def take(self, pieces: AsyncIterator[bytes]) -> Path:
        """Write an upload to a file of its own. Raises ApiError where it is too large, or the disk is full."""
        if len(list(self.folder.iterdir())) >= MOST_FILES:
            raise ApiError(503, f"{MOST_FILES} videos are here already", next_step="try again in a minute", retry_s=60)
        path = self.folder / secrets.token_hex(16)
        n_bytes = 0
        try:
            with path.open("xb") as file:
                async for piece in pieces:
                    n_bytes += len(piece)
                    self._check_size(n_bytes)
                    file.write(piece)
        except BaseException:  # the browser went away, say
            path.unlink(missing_ok=True)
            raise
        return path

    def add(self, path: Path, name: str, owner: str) -> Video:
        """Look at an uploaded file, and keep it as this owner's if it is a video. Raises ApiError or UserError."""
        name = shown_name(name)
        try:
            video = inspect(path, path.name, name, owner)
            if video.duration_s > self.max_s:
                raise ApiError(
                    413, f"{name}: {video.duration_s / 60:.1f} minutes", limit=f"{self.max_s / 60:g} minutes",
                    next_step="cut it shorter",
                )  # fmt: skip
        except (ApiError, UserError) as error:
            log.warning("an upload was refused: %s", error)
            path.unlink(missing_ok=True)
            if isinstance(error, ApiError):
                raise
            raise ApiError(422, str(error).replace(str(path), name)) from None
        except Exception:  # a stranger's file: whatever the decoder makes of it, it is no video to us
            log.exception("an upload could not be read")
            path.unlink(missing_ok=True)
            raise ApiError(422, f"{name} cannot be read as a video", next_step="convert it to MP4 (H.264)") from None
        self._videos[video.id] = video
        return video

    def remove(self, video: Video) -> None:
        """Forget an upload and delete its file; an example stays."""
        if video.owner is not None and self._videos.pop(video.id, None):
            self._thumbnails.pop(video.id, None)
            video.path.unlink(missing_ok=True)

    def remove_unwatched(self, watched: set[str], older_s: float) -> None:
        """Delete the uploads that were never opened, or whose tabs are gone."""
        for video in list(self._videos.values()):
            if video.id not in watched and time.monotonic() - video.since_s > older_s:
                self.remove(video)

    def thumbnail(self, video: Video) -> bytes:
        """A small JPEG of a moment of the video."""
        if video.id not in self._thumbnails:
            self._thumbnails[video.id] = picture_of(video.path, min(5.0, video.duration_s / 3))
        return self._thumbnails[video.id]

    def close(self) -> None:
        """Delete all uploads."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check_size(self, n_bytes: int) -> None:
        if n_bytes > self.max_bytes:
            raise ApiError(
                413, f"a video of over {self.max_bytes // 2**20} MB", limit=f"{self.max_bytes // 2**20} MB",
                next_step="compress it more or cut it shorter",
            )  # fmt: skip
        if n_bytes % 2**24 < 2**16 and shutil.disk_usage(self.folder).free < FREE_BYTES:
            raise ApiError(507, "this server's disk is nearly full", next_step="try again later, or use an example")


def inspect(path: Path, video_id: str, name: str, owner: str | None = None) -> Video:
    """Open a file as a video and decode its first picture. Raises ApiError or UserError where that fails."""
    media_type = media_type_of(path, name)
    with open_video(path) as container:
        stream = video_stream(container)
        if container.format.name not in FORMATS:
            raise ApiError(422, f"{name}: not {PLAYED}", next_step="convert it to MP4 (H.264)")
        width, height = stream.codec_context.width, stream.codec_context.height
        duration_s = container.duration / av.time_base if container.duration else None
    if not 0 < width * height <= MOST_PIXELS:
        raise ApiError(413, f"{name}: {width}x{height} pixels", limit="8192x4320", next_step="make it smaller")
    next(live_frames(path, limits=VideoLimits(max_pixels=MOST_PIXELS)))  # says so where nothing can be decoded
    duration_s = duration_s or list_frames(path).table.last_s  # a browser's recording does not state it
    return Video(video_id, name, path, media_type, duration_s, width, height, owner)


def inspect_example(path: str, video_id: str) -> Video:
    """The same for a file that the operator names. Raises UserError."""
    try:
        return inspect(Path(path), video_id, Path(path).name)
    except ApiError as error:
        told = "; ".join(str(error.detail[name]) for name in ("error", "cause") if error.detail[name])
        raise UserError(f"--examples {path}: {told}") from None


def media_type_of(path: Path, name: str) -> str:
    """Media type of a file by its first bytes, whatever it is called. Raises ApiError where that is none of PLAYED."""
    try:
        with path.open("rb") as file:
            beginning = file.read(16)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    for at, magic, media_type in MAGIC:
        if beginning[at:].startswith(magic):
            return media_type
    raise ApiError(
        422, f"{name} is not a video", cause=f"it does not begin as {PLAYED} does", next_step="upload one of those"
    )


def shown_name(name: str) -> str:
    """A file name as people may see it: its last part, one line, not too long."""
    name = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in name if c.isprintable()).strip()[:NAME_CHARACTERS] or "video"


def picture_of(path: Path, time_s: float) -> bytes:
    """A JPEG of the picture at a second."""
    with contextlib.closing(live_frames(path, limits=VideoLimits(max_pixels=MOST_PIXELS), start_s=time_s)) as frames:
        picture = Image.fromarray(next(frames).frame.permute(1, 2, 0).numpy())
    picture.thumbnail((THUMBNAIL_WIDTH, THUMBNAIL_WIDTH))
    return to_jpeg(picture)


def to_jpeg(picture: Image.Image) -> bytes:
    """A picture as JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def _remove_killed_uploads() -> None:
    """Delete the uploads of pages that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*_*"):
        number = folder.name.removeprefix(PREFIX).partition("_")[0]
        old = time.time() - folder.stat().st_mtime > 60
        if number.isdecimal() and old and not psutil.pid_exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)
