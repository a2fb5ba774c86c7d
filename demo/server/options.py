"""Options of the server; the fields are flags of demo/serve.py."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from demo.live.limits import FRAME_BYTES, FRAME_PIXELS
from utils.arguments import helped
from utils.errors import UserError
from utils.flag_values import check_values

TOKEN_VARIABLE = "LIVECC_TOKEN"
MIN_TOKEN = 8  # characters


@dataclass
class ServerOptions:
    """Limits of the server: who may ask for what, and how much of it."""

    token: str | None = helped(
        None, f"clients have to send it as a bearer token; others can read a command line, so better: {TOKEN_VARIABLE}"
    )
    token_file: str | None = helped(None, f"file that holds the token; default: the environment's {TOKEN_VARIABLE}")
    allow_host: list[str] = field(
        default_factory=list,
        metadata={"help": "names under which this server may be addressed, besides localhost and IP addresses"},
    )
    allow_source: list[str] = field(
        default_factory=list,
        metadata={
            "help": "what clients may name: folders, files, URLs (with / at the end all below), camera:0; default: none"
        },
    )
    max_sessions: int = helped(64, "streams that are open at once; fewer where the model is too slow for so many", ge=1)
    max_frame_bytes: int = helped(FRAME_BYTES, "bytes of one JPEG", ge=1)
    max_frame_pixels: int = helped(FRAME_PIXELS, "pixels of one JPEG before it is made smaller", ge=1)
    max_frames_per_second: float = helped(60.0, "frames that a session may send; 2 a second are looked at", ge=1)
    session_timeout_s: float = helped(300.0, "a session that no client sends to or reads from so long is closed", gt=0)
    save_dir: str | None = helped(
        None, "sessions are saved here at the end and on request; after a new start clients can continue them"
    )
    max_saved: int = helped(256, "saved sessions up to which a client may save another one", ge=1)

    def check(self) -> None:
        """Raise UserError for values that cannot work."""
        check_values(self)  # a deployment's options are no flags
        if self.save_dir is not None and not Path(self.save_dir).is_dir():
            raise UserError(f"--save_dir {self.save_dir}: no such folder; make it first, readable for nobody else")
        if self.token and self.token_file:
            raise UserError("--token and --token_file: give one of them")

    def secret(self) -> str | None:
        """The token, from wherever it is given. Raises UserError for one that is too short or cannot be sent."""
        token, origin = self.token, "--token"
        if self.token_file:
            origin = f"--token_file {self.token_file}"
            try:
                token = Path(self.token_file).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UserError(f"{origin}: cannot be read ({error}); check the path") from None
        elif token is None and TOKEN_VARIABLE in os.environ:
            token, origin = os.environ[TOKEN_VARIABLE].strip(), TOKEN_VARIABLE
        if token is not None and (len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable()):
            raise UserError(
                f"{origin}: a token needs {MIN_TOKEN} printable ASCII characters or more, it has {len(token)}; make "
                'one with: python -c "import secrets; print(secrets.token_urlsafe())"'
            )
        return token
