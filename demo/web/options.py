"""Options of the live page; the fields are flags of demo/app.py."""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from demo.arguments import NANO_MATCHES
from utils.arguments import helped
from utils.errors import UserError

AUTH_VARIABLE = "LIVECC_AUTH"
MIN_PASSWORD = 4  # characters


@dataclass
class PageArguments:
    """Address of the page, and who may open it."""

    js_monitor: bool = helped(
        False, "captions follow the browser's player, which reports its time; without it, the server's clock leads"
    )
    host: str = helped("127.0.0.1", "address to listen on; 0.0.0.0 is every network that this machine is in")
    port: int = helped(7860, "0 takes a free one", le=65535)
    share: bool = helped(False, "also open a public address through Gradio's tunnel; better with --auth")
    auth: str | None = helped(
        None, f"USER:PASSWORD that a browser is asked for; others can read a command line, so better: {AUTH_VARIABLE}"
    )
    auth_file: str | None = helped(None, f"file that holds USER:PASSWORD; default: the environment's {AUTH_VARIABLE}")
    allow_host: list[str] = field(
        default_factory=list,
        metadata={"help": "names under which the page may be addressed, besides localhost and IP addresses"},
    )

    def check(self) -> None:
        """Raise UserError for values that cannot work."""
        if self.auth and self.auth_file:
            raise UserError("--auth and --auth_file: give one of them")
        self.credentials()

    def credentials(self) -> str | None:
        """USER:PASSWORD, from wherever it is given. Raises UserError for one that cannot work."""
        given, origin = self.auth, "--auth"
        if self.auth_file:
            origin = f"--auth_file {self.auth_file}"
            try:
                given = Path(self.auth_file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{origin}: cannot be read ({error}); check the path") from None
        elif given is None and os.environ.get(AUTH_VARIABLE):
            given, origin = os.environ[AUTH_VARIABLE].strip(), AUTH_VARIABLE
        if given is None:
            return None
        user, colon, password = given.partition(":")
        if not user or not colon or len(password) < MIN_PASSWORD or not given.isprintable():
            raise UserError(f"{origin}: write USER:PASSWORD, the password of {MIN_PASSWORD} characters or more")
        return given


@dataclass
class ViewerArguments:
    """Limits of what viewers may watch."""

    max_sessions: int = helped(
        4, "viewers who are commented for at once; others wait in line, and see their place", ge=1
    )
    examples: list[str] = field(
        default_factory=lambda: [str(path) for path in NANO_MATCHES],
        metadata={"help": "videos that everybody can choose; default: the two shipped matches"},
    )
    allow_urls: list[str] = field(
        default_factory=list,
        metadata={"help": "addresses (rtsp, rtmp, http) viewers may open; with / at the end all below; default: none"},
    )  # fmt: skip
    max_upload_mb: int = helped(500, "of one uploaded video", ge=1)
    max_minutes: float = helped(60.0, "of one uploaded video", gt=0)
    idle_minutes: float = helped(10.0, "a commentary that is paused so long gives its place up", gt=0)

    def check(self) -> None:
        """Raise UserError for values that cannot work."""
        for url in self.allow_urls:
            if not re.match(r"(https?|rtsps?|rtmps?)://", url):
                raise UserError(
                    f"--allow_urls {url}: no address of a server; it begins with http://, rtsp:// or rtmp://"
                )
