"""Benchmark files: one JSON object a line, read and checked, with their videos found beside them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.samples.json_lines import require_json_lines
from utils.errors import UserError


@dataclass(frozen=True)
class BenchmarkLine:
    """One line of a benchmark file."""

    path: Path
    number: int
    fields: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        """A field that the benchmark needs. Raises UserError where the line lacks it."""
        if name not in self.fields:
            raise UserError(f"{self.where}: no field {name!r}; it has {', '.join(self.fields)}")
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        """A field that may be missing."""
        return self.fields.get(name, default)

    def seconds(self, name: str) -> float:
        """A field that is a time. Raises UserError where it is none."""
        try:
            return float(self[name])
        except (TypeError, ValueError):
            raise UserError(f"{self.where}: {name} is {self[name]!r}; it must be a number of seconds") from None

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.path}, line {self.number}"


def read_benchmark(path: str | Path, limit: int | None = None) -> Iterator[BenchmarkLine]:
    """The lines of a JSONL file, or the entries of a JSON list; some files hold each line as a string of JSON.

    Raises UserError where the file is missing or a line is no object.
    """
    path = Path(path)
    try:
        require_json_lines(path, "a benchmark's rows as JSON lines or a JSON array", arrays=True)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); check the path") from error
    entries = enumerate(text.splitlines(), start=1)
    if text.lstrip().startswith("["):
        entries = ((number, json.dumps(entry)) for number, entry in enumerate(_parsed(path, 1, text), start=1))
    for n_read, (number, entry) in enumerate((n, line) for n, line in entries if line.strip()):
        if limit is not None and n_read >= limit:
            return
        value = _parsed(path, number, entry)
        if isinstance(value, str):
            value = _parsed(path, number, value)
        if not isinstance(value, dict):
            raise UserError(f"{path}, line {number}: a JSON {type(value).__name__} where an object is needed")
        yield BenchmarkLine(path, number, value)


def find_video(
    name: str, folders: Sequence[Path], remedy: str = "get it, or name its folder with --video_dir"
) -> tuple[Path | None, str]:
    """The file `name` in the first folder that has it, else None, what is wrong, and the remedy.

    Names come with the data: one that would lead out of its folder is not followed.
    """
    for folder in folders:
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            return None, f"the video name {name!r} leads out of {folder}"
        if path.exists():
            return path, ""
    return None, f"no video {name!r} in {' or '.join(map(str, folders))}; {remedy}"


def _parsed(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: not JSON ({error}); correct the line or leave it out") from error
