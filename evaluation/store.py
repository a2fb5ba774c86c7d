"""The one place where answers are kept: appended and flushed as they come, found again by what decided them.

A folder of JSON lines files, one for each process that wrote, so that processes and machines never write into the same
file. A row is whole or it is not there: a line that a kill cut short is left out, and the item is asked again.
"""

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.item import Answer, Item
from utils.errors import UserError


def digest(value: Any) -> str:
    """16 hex digits of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


class Store:
    """Answers of one benchmark in one folder.

    settings: what decides every answer alike (benchmark, protocol, checkpoint's fingerprint, frame limits, decoding).
    Together with an item's own text, clip and setting it makes the item's key, so a changed setting finds nothing.
    since_s: rows written before this time (in seconds since 1970) do not count.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], since_s: float = 0.0):
        self.folder, self.since_s = folder, since_s
        self.settings, self.settings_key = settings, digest(settings)
        self._keys: dict[str, str] = {}  # item's name -> key
        self._rows: dict[str, dict] = {}  # key -> the latest row, an answer before an error
        self._read: dict[Path, int] = {}  # bytes of each file that were read
        self._file = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            described = folder / f"settings-{self.settings_key}.json"
            if not described.exists():
                _write_whole(described, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise UserError(f"{folder}: answers cannot be kept there ({error}); give another --output_dir") from error
        self.refresh()

    def key(self, item: Item) -> str:
        """What identifies an answer to this item under these settings."""
        if item.name not in self._keys:
            clip = None if item.clip is None else {**asdict(item.clip), "video": _identity(Path(item.clip.video))}
            ask = {"kind": type(item.ask).__name__, **asdict(item.ask)}
            self._keys[item.name] = digest([self.settings_key, item.id, item.setting, clip, ask])
        return self._keys[item.name]

    def refresh(self) -> None:
        """Read what this and other processes have appended."""
        for path in sorted(self.folder.glob("answers-*.jsonl")):
            at = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(at)
                lines = file.read().split(b"\n")[:-1]
            self._read[path] = at + sum(len(line) + 1 for line in lines)
            for line in lines:
                self._enter(path, line)

    def row(self, item: Item) -> dict | None:
        """The item's latest row: its answer if there is one, else its error; None where it was not asked."""
        return self._rows.get(self.key(item))

    def is_done(self, item: Item) -> bool:
        """Whether the item is answered."""
        row = self.row(item)
        return row is not None and row["error"] is None

    def n_attempts(self, item: Item) -> int:
        """How often the item was asked."""
        row = self.row(item)
        return row["attempts"] if row else 0

    def add(self, item: Item, answer: Answer) -> None:
        """Keep an answer."""
        self._append(item, {**asdict(answer), "error": None})

    def add_error(self, item: Item, error: str) -> None:
        """Keep what went wrong in place of an answer."""
        self._append(item, {**asdict(Answer("")), "error": error})

    def rows(self, items: Iterable[Item]) -> Iterator[dict]:
        """A row for every item, in their order; an item that was never asked has one that says so."""
        for item in items:
            yield self.row(item) or self._blank(item)

    def close(self) -> None:
        """Close this process's file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _enter(self, path: Path, line: bytes) -> None:
        if not line.strip():
            return
        try:
            row = json.loads(line)
            key, error, is_old = row["key"], row["error"], row["written"] < self.since_s
        except (ValueError, TypeError, KeyError) as problem:
            raise UserError(f"{path}: a line that is no answer ({problem}); move the file away to ask again") from None
        if is_old:
            return
        earlier = self._rows.get(key)
        if earlier is not None:
            row["attempts"] = max(row["attempts"], earlier["attempts"])
        if earlier is None or error is None or earlier["error"] is not None:
            self._rows[key] = row

    def _append(self, item: Item, said: dict) -> None:
        row = {
            "key": self.key(item), "item": item.id, "setting": item.setting, "video_id": item.video_id,
            "prompt_sha256": hashlib.sha256(item.prompt.encode()).hexdigest(), "settings": self.settings_key,
            "attempts": 1 + self.n_attempts(item), "written": round(time.time(), 3), **said,
        }  # fmt: skip
        if self._file is None:
            self._file = self._own_file()
        self._file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        self._rows[row["key"]] = row

    def _own_file(self):
        """A file that no other process has: named by machine and process, and by a number where that was used."""
        for number in range(1_000_000):
            path = self.folder / f"answers-{socket.gethostname()}-{os.getpid()}-{number}.jsonl"
            try:
                return path.open("xb")
            except FileExistsError:
                continue
        raise UserError(f"{self.folder}: a million files of answers; clear the folder")

    def _blank(self, item: Item) -> dict:
        return {
            "key": self.key(item), "item": item.id, "setting": item.setting, "video_id": item.video_id, "attempts": 0,
            **asdict(Answer("")), "error": "not asked yet",
        }  # fmt: skip


def _identity(video: Path) -> list:
    """Name and size of a video: the same wherever a machine keeps it, and another once the file is another."""
    return [video.name, video.stat().st_size if video.is_file() else None]


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
