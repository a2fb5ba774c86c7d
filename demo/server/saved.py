"""Saved sessions in a folder: what the model knows (models/streaming/session_file.py), and what was said, beside it.

ID.STEPS.safetensors    the session after so many steps
ID.json                 names that file; written last and at once, so the two never contradict each other
"""

import errno
import json
import os
import re
import time
from pathlib import Path

from safetensors import SafetensorError, safe_open

from demo.live.api_error import ApiError
from demo.live.session import Session
from demo.server.protocol import ID_PATTERN
from utils.files import partial_file

NOT_CONTINUED = ("end", "error", "header")


class SavedSessions:
    """The sessions in a folder, or none without one. Ids are checked before they become file names."""

    def __init__(self, folder: str | Path | None):
        self.folder = None if folder is None else Path(folder)

    def __len__(self) -> int:
        return 0 if self.folder is None else sum(1 for _ in self.folder.glob("*.json"))

    def has(self, session_id: str) -> bool:
        """Whether a session is saved."""
        return self.folder is not None and self._entry(session_id).exists()

    def new_file(self, session_id: str) -> Path:
        """File for the engine to write a session to before `keep` takes it."""
        return self._folder() / f"{_checked(session_id)}.saving.safetensors"

    def keep(self, session: Session, written: Path) -> dict:
        """Keep a file that the engine wrote, with the records up to that moment. Returns the entry."""
        n_steps = steps_in(written)
        reached = session.state_after(n_steps)
        if reached is None:
            raise ApiError(503, f"session {session.id} ran on while it was saved", next_step="save it again", retry_s=1)
        mark, last_seq = reached
        name = f"{session.id}.{n_steps}.safetensors"
        records = [r for r in session.log.after(0) if r["seq"] <= last_seq and r["type"] not in NOT_CONTINUED]
        entry = {
            "id": session.id, "file": name, "saved_unix_s": round(time.time()), "n_steps": n_steps,
            "next_s": mark.end_s, "last_seq": last_seq, "query": session.query, "records": records,
            "forgotten": min(session.log.forgotten, last_seq), "realtime": session.realtime,
        }  # fmt: skip
        os.replace(written, self._folder() / name)
        target = self._entry(session.id)
        with partial_file(target) as partial:
            partial.write_text(json.dumps(entry, ensure_ascii=False), encoding="utf-8")
        self._remove_tensors(session.id, but=name)
        return {**entry, "n_bytes": (self._folder() / name).stat().st_size}

    def read(self, session_id: str) -> tuple[dict, Path]:
        """A saved session: its entry and its file. Raises ApiError where there is none, or a damaged one."""
        try:
            entry = json.loads(self._entry(session_id).read_text(encoding="utf-8"))
            return entry, self._folder() / Path(entry["file"]).name
        except FileNotFoundError:
            raise ApiError(
                404, f"no saved session {session_id}", cause="it was never saved, or deleted",
                next_step="open a new one with POST /sessions",
            ) from None  # fmt: skip
        except (OSError, ValueError, KeyError) as error:
            raise ApiError(500, f"saved session {session_id} cannot be read: {error}") from None

    def remove(self, session_id: str) -> bool:
        """Delete a saved session; False where there is none."""
        if not self.has(session_id):
            return False
        self._entry(session_id).unlink()
        self._remove_tensors(session_id)
        return True

    def _folder(self) -> Path:
        if self.folder is None:
            raise ApiError(
                409, "this server saves nothing", cause="it was started without --save_dir",
                next_step="ask its operator to start it with one",
            )  # fmt: skip
        return self.folder

    def _entry(self, session_id: str) -> Path:
        return self._folder() / f"{_checked(session_id)}.json"

    def _remove_tensors(self, session_id: str, but: str = "") -> None:
        for path in self._folder().glob(f"{session_id}.*.safetensors"):
            if path.name != but:
                path.unlink(missing_ok=True)


def steps_in(path: Path) -> int:
    """Number of steps of a saved session. Raises ApiError for another file."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads(file.metadata()["state"])["step"] + 1
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ApiError(500, f"a session was not saved: {error}") from None


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, is of a disk that is full."""
    if error is None:
        return False
    return (
        getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        or "No space left" in str(error)
        or (is_disk_full(error.__cause__))
    )


def _checked(session_id: str) -> str:
    if not re.fullmatch(ID_PATTERN, session_id):
        raise ApiError(422, f"{session_id[:80]!r} is no session id", next_step="ids come from POST /sessions")
    return session_id
