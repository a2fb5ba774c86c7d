"""Input: JSON lines, one video or clip a line, with the fields of data/production/record.py.

    python -m data.production.run CONFIG.yaml        # with  inputs: {jsonl_input: {paths: [videos.jsonl]}}

Only `id` or `video` is needed. captions: [[start_s, end_s, text], ...], words: the same. Fields that no stage knows go
to `extra`. A line that cannot be used is a rejected record that names file and line; the others go on.
"""

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import le
from pathlib import Path
from typing import Any

import orjson

from data.production.record import FIELDS, Record, Rejection, to_line
from data.production.stage import Input
from data.production.words.packed_words import is_sorted
from data.samples.json_lines import JsonLines
from data.samples.line_index import file_identity
from utils.errors import UserError

SHOWN_CHARACTERS = 60
OWN = frozenset(FIELDS)
TEXTS = frozenset({"id", "video", "title", "category", "channel", "language", "previous", "query", "split", "source"})
NUMBERS = frozenset({"duration_s", "height", "width", "start_s", "end_s"})
TIMED = frozenset({"captions", "words"})
OBJECTS = frozenset({"scores", "extra", "rejection"})  # the others are lists
MAX_S = 1e7


class BadLine(Exception):
    """What is wrong with a line; `reason` is counted."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


@dataclass
class JsonlOptions:
    """Which files."""

    paths: list[str] = field(default_factory=list, metadata={"help": "JSONL files"})
    media_root: str | None = field(
        default=None, metadata={"help": "folder that videos are relative to; default: the working directory"}
    )


class JsonlInput(Input):
    """JSON lines by byte offset: a shard is a run of lines of one file."""

    name, version, Options = "jsonl_input", 1, JsonlOptions
    _open: tuple[str, str] | None = None  # what the file that is open was when it was opened

    def shards(self, size: int) -> Iterator[dict]:
        """Runs of `size` lines."""
        if not self.options.paths:
            raise UserError("jsonl_input: no files; give paths: [FILE.jsonl, ...]")
        for path in self.options.paths:
            file = JsonLines(path)
            identity = file_identity(Path(path)).hex()
            for start in range(0, len(file), size):
                yield {"path": path, "identity": identity, "start": start, "stop": min(start + size, len(file))}

    def read(self, shard: dict) -> Iterator[Record]:
        """The records of a run of lines."""
        return (record for record, _ in self.read_lines(shard))

    def read_lines(self, shard: dict) -> Iterator[tuple[Record, bytes]]:
        """The same with their lines, which are the file's own where nothing had to be changed."""
        path, identity = shard["path"], shard["identity"]
        if file_identity(Path(path)).hex() != identity:
            raise UserError(f"{path}: changed while it was in use; run the same command again")
        if self._open != (path, identity):
            self._open, self._file = (path, identity), JsonLines(path)
        for line_no, line in self._file.lines(shard["start"], shard["stop"]):
            record = parse_line(line, path, line_no)
            if self.options.media_root and record.video:
                record.video, line = os.path.join(self.options.media_root, record.video), b""
            yield record, _own_line(record, line)


def parse_line(line: bytes, path: str, line_no: int) -> Record:
    """A line as a record; where it cannot be used, a rejected one whose detail says file, line, value and remedy."""
    where = f"{path}:{line_no}"
    try:
        value = _parse_json(line)
        record = _record(value, where)
    except BadLine as fault:
        known = f"{Path(path).name}:{line_no}"
        return Record(known, source=where).reject("jsonl_input", fault.reason, f"{where}: {fault}")
    record.source = record.source or where
    return record


def _own_line(record: Record, line: bytes) -> bytes:
    """The record's line: the input's with the place it came from, where it says all that the record does."""
    is_whole = record.rejection is None and not record.extra and line.startswith(b'{"id":')
    if is_whole and line.endswith(b"}") and b'"source"' not in line and b'"conversation"' not in line:
        return line[:-1] + b',"source":' + orjson.dumps(record.source) + b"}"
    return to_line(record)


def _parse_json(line: bytes) -> dict:
    try:
        value = orjson.loads(line.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        near = line[:SHOWN_CHARACTERS].decode("utf-8", "replace")
        raise BadLine("malformed_json", f"not JSON in UTF-8: {error}, in {near!r}; a line holds one object") from None
    if not isinstance(value, dict):
        raise BadLine("malformed_record", f"an object is needed, not {str(value)[:SHOWN_CHARACTERS]!r}")
    return value


def _record(value: dict, where: str) -> Record:
    others = value.keys() - OWN
    own: dict[str, Any] = {name: item for name, item in value.items() if name in OWN} if others else value
    if "id" not in own:
        own["id"] = own.get("video", "")
        if not own["id"] and "video_id" in others:
            own["id"] = value["video_id"]
            others.remove("video_id")
    for name, item in own.items():
        _check(name, item)
    if not own["id"]:
        near = [other for other in others if difflib.get_close_matches(other, ("id", "video", "video_id"), n=1)]
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadLine("no_id", f"neither id nor video is given{hint}")
    own["scores"], own["flags"] = own.get("scores") or {}, own.get("flags") or []
    own["extra"] = {**(own.get("extra") or {}), **{name: value[name] for name in value if name in others}}
    if own.get("rejection"):
        own["rejection"] = _rejection(own["rejection"])
    return Record(**own)


def _rejection(item: dict) -> Rejection:
    try:
        return Rejection(**item)
    except TypeError as error:
        raise BadLine("malformed_record", f"rejection: {error}") from None


def _check(name: str, item: Any) -> None:
    wanted = ""
    if name in TEXTS:
        wanted = "" if isinstance(item, str) else "a string"
    elif name in NUMBERS:
        is_number = isinstance(item, int | float) and not isinstance(item, bool)
        wanted = "" if item is None or (is_number and 0 <= item < MAX_S) else "a number from 0 on"
    elif name in TIMED:
        _check_timed(name, item)
    elif item is not None and not isinstance(item, dict if name in OBJECTS else list):
        wanted = "an object" if name in OBJECTS else "a list"
    if wanted:
        raise BadLine("malformed_record", f"{name} must be {wanted}, not {str(item)[:SHOWN_CHARACTERS]!r}")


def _check_timed(name: str, value: Any) -> None:
    if not isinstance(value, list):
        raise BadLine("malformed_record", f"{name} must be a list of [start_s, end_s, text]")
    if not value or _is_timed(value):
        return
    before = 0.0
    for i, entry in enumerate(value):
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], str)):
            raise BadLine("malformed_record", f"{name}[{i}] must be [start_s, end_s, text], not {str(entry)[:60]!r}")
        start_s, end_s = entry[:2]
        if start_s is None or end_s is None:
            raise BadLine(
                "bad_time",
                f"{name}[{i}] has no time: {str(entry)[:60]}; whisperX gives none to numbers and signs that it cannot "
                "align: give it a time between its neighbours', or leave it out",
            )
        if not all(type(second) in (int, float) and 0 <= second < MAX_S for second in (start_s, end_s)):
            raise BadLine("bad_time", f"{name}[{i}]: times are seconds from 0 on, not {entry[:2]}")
        if start_s > end_s:
            raise BadLine("bad_time", f"{name}[{i}] ends before it starts: {str(entry)[:60]}")
        if start_s < before:
            raise BadLine("out_of_order", f"{name}[{i}] starts before the one before it: {str(entry)[:60]}; sort them")
        before = start_s


def _is_timed(value: list) -> bool:
    """Whether everything is right, found out without a look at each entry by itself."""
    if set(map(type, value)) != {list} or set(map(len, value)) != {3}:
        return False
    starts_s, ends_s, texts = zip(*value, strict=True)
    if set(map(type, texts)) != {str} or not {*map(type, starts_s), *map(type, ends_s)} <= {int, float}:
        return False
    in_order = is_sorted(starts_s) and all(map(le, starts_s, ends_s))
    return in_order and starts_s[0] >= 0 and max(ends_s) < MAX_S


INPUT = JsonlInput
