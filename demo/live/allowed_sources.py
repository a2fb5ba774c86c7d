"""Which sources clients may name: a list that the operator gives; nothing else is opened, or even looked at."""

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from data.sources.spec import SourceSpec, parse_spec
from data.video.frame_folder import list_images
from demo.live.api_error import ApiError
from utils.errors import UserError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
EXACT = ("camera:", "lavfi:", "/dev/")
ODD = re.compile(r"[\x00-\x1f\x7f\\]")  # what programs read in different ways, in a URL
DEFAULT_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443}


class AllowedSources:
    """Checks names against the list.

    A folder allows every file and folder in it; a file allows itself. Names are resolved first, so neither ".." nor a
    symbolic link leads out. A relative name is looked up in the allowed folders, in their order. A URL that ends in /
    allows what begins with it; another URL, camera:, /dev/ and lavfi: allow exactly themselves. Standard input is never
    a client's. An allowed server is trusted: FFmpeg follows its redirects and playlists (data/sources/spec.py says by
    which protocols); so is whoever may write to an allowed folder.
    """

    def __init__(self, patterns: list[str]):
        self._exact = [pattern for pattern in patterns if pattern.startswith(EXACT)]
        self._urls = [pattern for pattern in patterns if URL.match(pattern)]
        self._paths = [_existing(pattern) for pattern in patterns if pattern not in (*self._exact, *self._urls)]
        for url in self._urls:
            parse_spec(url)

    def check(self, name: str) -> SourceSpec:
        """Source that a name means. Raises ApiError where the list does not allow it, UserError where it fails."""
        if name.startswith(EXACT):
            if name not in self._exact:
                raise _refused(name)
            return parse_spec(name)
        if URL.match(name):
            if not any(_is_below(name, url) for url in self._urls):
                raise _refused(name)
            return parse_spec(name)
        return self._check_path(name)

    def _check_path(self, name: str) -> SourceSpec:
        path = self._resolve(name)
        if not path.exists():
            raise ApiError(404, f"source {name[:200]!r}: no such file or folder", next_step="check its name")
        spec = parse_spec(str(path))
        if spec.kind == "images" and any(not self._holds(image.resolve()) for image in list_images(str(path))):
            raise _refused(name)
        return spec

    def _resolve(self, name: str) -> Path:
        """The real path, inside the list. Outside it nothing is said, not even whether it is there."""
        if not name or "\0" in name or name.startswith(("-", "raw:", "~")):
            raise _refused(name)
        roots = [Path("/")] if name.startswith("/") else [path for path in self._paths if path.is_dir()]
        try:
            candidates = [path for root in roots if self._holds(path := (root / name).resolve())]
            if candidates:
                return next((path for path in candidates if path.exists()), candidates[0])
        except (OSError, RuntimeError):  # a name too long, a link to itself
            pass
        raise _refused(name)

    def _holds(self, path: Path) -> bool:
        return any(path == allowed or allowed in path.parents for allowed in self._paths)


def _existing(pattern: str) -> Path:
    try:
        path = Path(pattern).expanduser().resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"--allow_source {pattern}: {error.strerror or error}; name a folder, file or URL") from None
    if path == Path(path.anchor):
        raise UserError(f"--allow_source {pattern}: would allow every file of this machine; name a folder of videos")
    return path


def _is_below(url: str, allowed: str) -> bool:
    """Whether a URL is the allowed one, or lies below it; by parts, since prefixes of text deceive."""
    if url == allowed:
        return True
    try:
        asked, base = urlsplit(url), urlsplit(allowed)
        ports = [part.port or DEFAULT_PORTS.get(part.scheme.lower()) for part in (asked, base)]
    except ValueError:
        return False
    path = unquote(asked.path)
    odd = (
        " " in url
        or ODD.search(url)
        or ODD.search(path)
        or "%" in path
        or ".." in path.split("/")
        or "@" in asked.netloc
    )
    same_server = (asked.scheme.lower(), asked.hostname) == (base.scheme.lower(), base.hostname)
    below = base.path.endswith("/") and not base.query and asked.path.startswith(base.path)
    return not odd and same_server and ports[0] == ports[1] and below


def _refused(name: str) -> ApiError:
    return ApiError(
        403, f"source {name[:200]!r}", cause="it is not on this server's list",
        next_step="name a source that the server was started with (--allow_source), or push frames",
    )  # fmt: skip
