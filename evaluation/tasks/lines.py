"""Benchmark files: one JSON object a line, read and checked, with their videos found beside them."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from data.samples.json_lines import require_json_lines
from evaluation.tasks.item import Item
from utils.errors import UserError

EXTENSIONS = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".ts", ".flv", ".mpg", ".mpeg", ".wmv")


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


@dataclass
class LineArguments:
    """What becomes of lines that cannot be understood."""

    skip_bad_lines: bool = field(
        default=False, kw_only=True, metadata={"help": "leave out lines that cannot be understood, say and count them"}
    )

    def skipped(self) -> list[str] | None:
        """Where what is wrong with a line is kept; None where it ends the command."""
        return [] if self.skip_bad_lines else None


def read_benchmark(
    path: str | Path, limit: int | None = None, skipped: list[str] | None = None
) -> Iterator[BenchmarkLine]:
    """The lines of a JSONL file, or the entries of a JSON list; some files hold each line as a string of JSON.

    skipped: gains what is wrong with a line that is no object, in place of the error. Raises UserError where the file
    is missing or a line is no object.
    """
    path = Path(path)
    try:
        require_json_lines(path, "a benchmark's rows as JSON lines or a JSON array", arrays=True)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); check the path") from error
    entries = enumerate(text.splitlines(), start=1)
    if text.lstrip().startswith("["):
        entries = ((number, json.dumps(entry)) for number, entry in _flat(_parsed(path, 1, text)))
    for n_read, (number, entry) in enumerate((n, line) for n, line in entries if line.strip()):
        if limit is not None and n_read >= limit:
            return
        with bad_lines_kept(skipped):
            yield BenchmarkLine(path, number, _object(path, number, entry))


@contextmanager
def bad_lines_kept(skipped: list[str] | None) -> Iterator[None]:
    """Keep the message of a UserError inside, and go on after it; with None it is raised."""
    try:
        yield
    except UserError as error:
        if skipped is None:
            raise
        skipped.append(str(error))


def make_items(
    lines: Iterable[BenchmarkLine], make: Callable[[BenchmarkLine], Iterable[Item]], skipped: list[str] | None
) -> list[Item]:
    """The items of all lines. skipped: gains what is wrong with lines that make none, and with repeated ones.

    Raises UserError for a bad line where nothing is skipped, and where no line makes an item.
    """
    items: list[Item] = []
    names: set[str] = set()
    for line in lines:
        with bad_lines_kept(skipped):
            made = list(make(line))
            if skipped is not None and any(item.name in names for item in made):
                raise UserError(f"{line.where}: an item {made[0].name!r} was there before")
            names.update(item.name for item in made)
            items += made
    if not items:
        raise UserError(f"no line makes an item; {len(skipped or ())} were left out: {(skipped or ['no lines'])[0]}")
    return items


class VideoFolders:
    """Folders in which a benchmark's videos are looked for.

    nested: also in the folders inside them, by the file's name. Other extensions of videos will do too. remedy: what a
    user does about a video that is nowhere.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        remedy: str = "get it, or name its folder with --video_dir",
        nested: bool = False,
    ):
        self.folders, self.remedy, self.nested = folders, remedy, nested

    def find(self, *names: str) -> tuple[Path | None, str]:
        """The first of the names that a folder has, else None, what is wrong, and the remedy.

        Names come with the data: one that would lead out of its folder is not followed.
        """
        for name in names:
            for folder in self.folders:
                if not (folder / name).resolve().is_relative_to(folder.resolve()):
                    return None, f"the video name {name!r} leads out of {folder}"
        for find in (self._exact, self._other_extension, *([self._inside] if self.nested else [])):
            for name in names:
                if path := find(name):
                    return path, ""
        return None, f"no video {names[0]!r} in {' or '.join(map(str, self.folders))}; {self.remedy}"

    def _exact(self, name: str) -> Path | None:
        return next((folder / name for folder in self.folders if (folder / name).exists()), None)

    def _other_extension(self, name: str) -> Path | None:
        stem = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in EXTENSIONS else name
        tries = (folder / f"{stem}{ext}" for folder in self.folders for low in EXTENSIONS for ext in (low, low.upper()))
        return next((path for path in tries if path.is_file()), None)

    def _inside(self, name: str) -> Path | None:
        """The one video of that name, whatever its extension, in the folders inside. Raises UserError for two."""
        stem = Path(name).stem if Path(name).suffix.lower() in EXTENSIONS else Path(name).name
        found = self._index.get(stem, [])
        if len(found) > 1:
            raise UserError(f"two videos are called {stem!r}: {found[0]} and {found[1]}; leave one of them there")
        return found[0] if found else None

    @cached_property
    def _index(self) -> dict[str, list[Path]]:
        """Stem -> videos, in all folders inside."""
        paths = {path.resolve(): path for folder in self.folders for path in sorted(folder.rglob("*"))}
        index: dict[str, list[Path]] = {}
        for path in paths.values():
            if path.suffix.lower() in EXTENSIONS and path.is_file():
                index.setdefault(path.stem, []).append(path)
        return index


def find_video(name: str, folders: Sequence[Path], *remedy: str) -> tuple[Path | None, str]:
    """The file `name` in the first folder that has it, else None and what is wrong (VideoFolders.find)."""
    return VideoFolders(folders, *remedy).find(name)


def _flat(entries: list) -> Iterator[tuple[int, Any]]:
    """Entries with their numbers; those of a list inside have its number."""
    for number, entry in enumerate(entries, start=1):
        yield from ((number, inner) for inner in (entry if isinstance(entry, list) else [entry]))


def _object(path: Path, number: int, entry: str) -> dict[str, Any]:
    value = _parsed(path, number, entry)
    if isinstance(value, str):
        value = _parsed(path, number, value)
    if not isinstance(value, dict):
        raise UserError(f"{path}, line {number}: a JSON {type(value).__name__} where an object is needed")
    return value


def _parsed(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{path}, line {number}: not JSON ({error}); correct the line or leave it out") from error
