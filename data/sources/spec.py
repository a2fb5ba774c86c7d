"""Names of sources, as people write them, to kinds of source: text only, nothing is opened."""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from utils.errors import UserError

Kind = Literal["file", "images", "camera", "lavfi", "url", "pipe"]

FORMS = """\
FILE                      a video file
FOLDER                    its images in natural order of their names, 2 a second (--images_fps)
camera:0 or /dev/video0   a camera
rtsp:// rtsps:// http:// https:// rtmp:// rtmps://   a stream, HLS playlist or file on a server
-                         standard input: MPEG-TS, Matroska or whatever else can be read in one go
raw:640x480@30:rgb24      standard input: bare frames of that size, rate and pixel format (default rgb24)
lavfi:testsrc2            a picture that FFmpeg draws, for trying things out"""

# Which protocols of FFmpeg a URL of each scheme may use, redirects and playlists included. "file" is never among
# them: what a server sends cannot make us read local files.
HTTP = "http,https,httpproxy,tcp,tls,crypto,data"
RTP = "rtp,srtp,udp,tcp,tls"
PROTOCOLS = {"http": HTTP, "https": HTTP, "rtsp": RTP, "rtsps": RTP, "rtmp": "rtmp,tcp", "rtmps": "rtmps,tls,tcp"}
NO_PROTOCOL = "none"  # a whitelist that allows nothing: FFmpeg has no protocol of this name

RAW = re.compile(r"raw:(\d{1,5})x(\d{1,5})@(\d+(?:[./]\d+)?)(?::(\w+))?")
RAW_FORMATS = ("rgb24", "bgr24", "rgba", "bgra", "gray", "yuv420p", "yuyv422", "nv12")

SECRET = re.compile(r"[^=?&;/#]+=[^&;/#]*")  # a field of a URL, also of its path, where some cameras have them
SECRET_NAME = re.compile(r"pass|pwd|token|secret|key|auth|sig|cred", re.IGNORECASE)

# What a lavfi graph may be made of. Other filters can read files and open URLs (movie, subtitles, drawtext, ...).
DRAWN = {"color", "gradients", "life", "mandelbrot", "nullsrc", "rgbtestsrc", "smptebars", "smptehdbars", "testsrc"}
DRAWN |= {"testsrc2", "yuvtestsrc", "format", "fps", "loop", "null", "realtime", "scale", "setpts", "settb", "trim"}


@dataclass(frozen=True)
class SourceSpec:
    """A source by name. address: what FFmpeg opens; name: what people read, without a URL's password."""

    kind: Kind
    address: str
    name: str
    format: str | None = None  # FFmpeg's demuxer, where it must not guess
    options: dict[str, str] = field(default_factory=dict)

    @property
    def scheme(self) -> str:
        """A URL's scheme."""
        return self.address.partition("://")[0].lower()


def parse_spec(text: str) -> SourceSpec:
    """Parse the name of a source. Raises UserError where it names nothing that can be opened."""
    if text == "-":
        return SourceSpec("pipe", "-", "standard input", options={"protocol_whitelist": NO_PROTOCOL})
    for beginning, parse in (("raw:", _raw), ("camera:", _camera), ("/dev/", _camera), ("lavfi:", _lavfi)):
        if text.startswith(beginning):
            return parse(text)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        return _url(text)
    path = Path(text)
    if path.is_dir() and text:
        return SourceSpec("images", text, text)
    if path.is_file():
        return SourceSpec("file", text, text)
    raise UserError(f"{text or repr(text)}: no such file or folder; a video is one of these:\n{FORMS}")


def check_frame_times(spec: SourceSpec, frame_times: str | None) -> None:
    """Raise UserError where the published choice of frames is asked of something that is no file."""
    if frame_times == "end32" and spec.kind != "file":
        raise UserError(
            f"{spec.name}: frame times end32 are those of the published data, which are files; use grid for this source"
        )


def _raw(text: str) -> SourceSpec:
    match = RAW.fullmatch(text)
    if not match:
        raise UserError(f"{text}: bare frames are named like raw:640x480@30:rgb24 (width x height @ frames a second)")
    width, height, rate, pixel_format = match.groups(default="rgb24")
    if not int(width) or not int(height) or not float(rate.split("/")[0]) or rate.endswith("/0"):
        raise UserError(f"{text}: width, height and rate must be above 0")
    if pixel_format not in RAW_FORMATS:
        raise UserError(f"{text}: pixel format {pixel_format!r}; known are {', '.join(RAW_FORMATS)}")
    options = {"video_size": f"{width}x{height}", "framerate": rate, "pixel_format": pixel_format}
    name = f"standard input ({text})"
    return SourceSpec("pipe", "-", name, "rawvideo", {**options, "protocol_whitelist": NO_PROTOCOL})


def _camera(text: str, platform: str = sys.platform) -> SourceSpec:
    """A camera's device on this platform. Tested on Linux, without a device; macOS and Windows were not run."""
    device = text.removeprefix("camera:")
    options = {"protocol_whitelist": NO_PROTOCOL}
    if not device:
        raise UserError("camera: names no camera; write camera:0, or on Windows camera:NAME")
    if platform == "darwin":
        return SourceSpec("camera", device, text, "avfoundation", {**options, "framerate": "30"})
    if platform == "win32":
        return SourceSpec("camera", f"video={device}", text, "dshow", options)
    device = f"/dev/video{device}" if device.isdecimal() else device
    if not device.startswith("/dev/") or not Path(device).is_char_device():
        here = ", ".join(sorted(map(str, Path("/dev").glob("video*")))) or "none"
        raise UserError(
            f"{text}: no such camera; cameras here: {here}. Plug it in, or pass its device to the container"
        )
    return SourceSpec("camera", device, text, "v4l2", options)


def _lavfi(text: str) -> SourceSpec:
    graph = text.removeprefix("lavfi:")
    # Splitting inside quotes too can only give more pieces, never hide one: what is not known is refused.
    for piece in re.split(r"[,;]", graph):
        used = re.sub(r"\[[^\]]*\]", "", piece).strip().partition("=")[0].partition("@")[0]
        if used not in DRAWN:
            raise UserError(f"{text}: filter {used!r} is not allowed; a graph may use {', '.join(sorted(DRAWN))}")
    return SourceSpec("lavfi", graph, text, "lavfi", {"protocol_whitelist": NO_PROTOCOL})


def _url(text: str) -> SourceSpec:
    scheme, name = text.partition("://")[0].lower(), shown_url(text)
    if scheme == "file":
        raise UserError(f"{name}: write a local file as its path, without file://")
    if scheme not in PROTOCOLS:
        raise UserError(f"{name}: {scheme}:// is not read; known are {', '.join(f'{s}://' for s in PROTOCOLS)}")
    if not _host(text) or "@" in urlsplit(text).fragment:
        raise UserError(
            f"{name}: names no server, or is no URL; one looks like {scheme}://USER:PASSWORD@HOST:PORT/PATH, and in a "
            "password # is written %23, / %2F, ? %3F, @ %40"
        )
    options = {"protocol_whitelist": PROTOCOLS[scheme]}
    if PROTOCOLS[scheme] == RTP:
        options["rtsp_flags"] = "prefer_tcp"  # RTP over TCP loses no packets and passes firewalls
    return SourceSpec("url", text, name, options=options)


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
        return parts.hostname
    except ValueError:
        return None


def shown_url(url: str) -> str:
    """A URL as people may read it: without the password of its user, and without those that cameras take elsewhere."""
    beginning, _, rest = url.partition("://")
    authority = re.match(r"[^/?#]*", rest)[0]
    if "@" not in authority and (_host(url) is None or "@" in rest.partition("#")[2]):
        authority = rest  # a password with # or / in it reaches to the last @
    user, at, _ = authority.rpartition("@")
    if at:
        rest = f"{user.partition(':')[0]}:***@{rest[len(user) + 1 :]}" if ":" in user else rest
    return f"{beginning}://{SECRET.sub(_masked, rest)}"


def _masked(found: re.Match) -> str:
    names = found[0].split("=")[:-1]
    secret = next((at for at, name in enumerate(names) if SECRET_NAME.search(unquote(name))), None)
    return found[0] if secret is None else "=".join([*names[: secret + 1], "***"])
