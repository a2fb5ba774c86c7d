"""Store of answers: appended and flushed as they come, found again by a key of all that decided them.

Its rows stand in a journal (utils/journal.py): a file for each process that wrote, so that processes and machines never
write into the same one. A row that a kill cut short is not there, and its item is asked again.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.tasks.item import Answer, Item
from utils.files import write_whole
from utils.fingerprint import digest, fingerprint
from utils.journal import Journal


class AnswerStore:
    """Answers of one benchmark in one folder.

    settings: what decides every answer alike (benchmark, protocol, checkpoint's fingerprint, frame limits, decoding).
    Together with an item's own text, clip and setting it makes the item's key, so a changed setting finds nothing.
    since_s: rows written before this time (in seconds since 1970) do not count.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], since_s: float = 0.0):
        self.since_s = since_s
        self.settings, self.settings_key = settings, digest(settings)
        self._journal = Journal(folder, "answers")
        self._keys: dict[str, str] = {}  # item's name -> key
        self._videos: dict[str, list] = {}  # path -> identity
        self._rows: dict[str, dict] = {}  # key -> the latest row, an answer before an error
        described = folder / f"settings-{self.settings_key}.json"
        if not described.exists():
            write_whole(described, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
        self.refresh()

    def key(self, item: Item) -> str:
        """Key of an answer to this item under these settings."""
        if item.name not in self._keys:
            clip = None if item.clip is None else {**asdict(item.clip), "video": self._identity(item.clip.video)}
            ask = {"kind": type(item.ask).__name__, **asdict(item.ask)}
            self._keys[item.name] = digest([self.settings_key, item.id, item.setting, clip, ask])
        return self._keys[item.name]

    def _identity(self, video: str) -> list:
        if video not in self._videos:
            self._videos[video] = _identity(Path(video))
        return self._videos[video]

    def refresh(self) -> None:
        """Read what this and other processes have appended."""
        for row in self._journal.rows():
            if row["written"] >= self.since_s:
                self._enter(row)

    def row(self, item: Item) -> dict | None:
        """The item's latest row: its answer if there is one, else its error; None where it was not asked."""
        return self._rows.get(self.key(item))

    def is_done(self, item: Item) -> bool:
        """Whether the item is answered."""
        row = self.row(item)
        return row is not None and row["error"] is None

    def n_attempts(self, item: Item) -> int:
        """Number of times that the item was asked."""
        row = self.row(item)
        return row["attempts"] if row else 0

    def add(self, item: Item, answer: Answer) -> None:
        """Append an answer."""
        self._append(item, {**asdict(answer), "error": None})

    def add_error(self, item: Item, error: str) -> None:
        """Append an error in place of an answer."""
        self._append(item, {**asdict(Answer("")), "error": error})

    def rows(self, items: Iterable[Item]) -> Iterator[dict]:
        """A row for every item, in their order; an item that was never asked has one that says so."""
        for item in items:
            yield self.row(item) or self._blank(item)

    def close(self) -> None:
        """Close this process's file."""
        self._journal.close()

    def _enter(self, row: dict) -> None:
        earlier = self._rows.get(row["key"])
        if earlier is not None:
            row["attempts"] = max(row["attempts"], earlier["attempts"])
        if earlier is None or row["error"] is None or earlier["error"] is not None:
            self._rows[row["key"]] = row

    def _append(self, item: Item, said: dict) -> None:
        row = {
            "key": self.key(item), "item": item.id, "setting": item.setting, "video_id": item.video_id,
            "prompt_sha256": hashlib.sha256(item.prompt.encode()).hexdigest(), "settings": self.settings_key,
            "attempts": 1 + self.n_attempts(item), "written": round(time.time(), 3), **said,
        }  # fmt: skip
        self._journal.append(row)
        self._enter(row)

    def _blank(self, item: Item) -> dict:
        return {
            "key": self.key(item), "item": item.id, "setting": item.setting, "video_id": item.video_id, "attempts": 0,
            **asdict(Answer("")), "error": "not asked yet",
        }  # fmt: skip


def _identity(video: Path) -> list:
    """Name of a video and fingerprint of its bytes (of a folder: names and sizes in it): the same wherever a machine
    keeps it, and another once it is another."""
    if video.is_dir():
        return [video.name, digest(sorted([entry.name, entry.stat().st_size] for entry in video.iterdir()))]
    return [video.name, fingerprint(video) if video.is_file() else None]
