"""The end of a run: training files with their index, what was rejected and what failed, parquet and a data card."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from data.production.append_jsonl_seeks import SeekWriter
from data.production.record import has_failed, read_record_lines
from data.production.runner.config import OutputOptions
from data.production.runner.shard_files import put, saved
from data.production.runner.step import digest_of
from data.samples.line_index import open_index
from utils.files import partial_file

FORMAT = 2  # of the files: raise it when one changes
HELD_OUT = "held_out"


@dataclass(frozen=True)
class Results:
    """Where the results of a run lie, in the order of the shards. dropped: of all steps, shard by shard.

    digest: of all of them together.
    """

    kept: list[Path]
    dropped: list[Path]
    digest: str


def write_outputs(folder: Path, results: Results, options: OutputOptions) -> dict[str, int]:
    """Write the files of a run, each whole or not at all; returns their numbers of lines by name.

    Records with a conversation become training samples, those held out in a file of their own; records without one
    stand in NAME.jsonl as they are. Nothing is written again where nothing has changed.
    """
    marker = folder / "work" / "output.json"
    key = digest_of([FORMAT, results.digest, asdict(options)])
    before = _read_marker(marker)
    if before.get("key") == key and all((folder / name).is_file() for name in before["files"]):
        return before["files"]
    files = {**_write_kept(folder, results.kept, options), **_write_dropped(folder, results.dropped, options)}
    if options.parquet:
        from data.production.output.parquet import write_parquet

        write_parquet(folder / "parquet", results.kept, options)
    for name in before.get("files", {}):
        if name not in files:
            (folder / name).unlink(missing_ok=True)
    put(marker, orjson.dumps({"key": key, "files": files}))
    return files


def _write_kept(folder: Path, kept: Sequence[Path], options: OutputOptions) -> dict[str, int]:
    suffix = "_with_seeks.jsonl" if options.seeks else ".jsonl"
    names = {"": options.name + suffix, HELD_OUT: f"{options.name}_{HELD_OUT}{suffix}"}
    with _Files(folder) as files:
        for line in _lines(kept):
            record = orjson.loads(line)
            if sample := record.get("conversation"):
                is_held_out = record.get("split") == HELD_OUT
                files.add(names[HELD_OUT if is_held_out else ""], orjson.dumps(sample), options.seeks)
            else:
                files.add(f"{options.name}.jsonl", line)
    for name in files.n_lines:
        open_index(folder / name)
    return dict(files.n_lines)


def _write_dropped(folder: Path, dropped: Sequence[Path], options: OutputOptions) -> dict[str, int]:
    with _Files(folder) as files:
        for line in _lines(dropped):
            if options.rejected:
                files.add("rejected.jsonl", line)
            if has_failed(line):
                files.add("failed.jsonl", line)
    return dict(files.n_lines)


def _lines(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        yield from read_record_lines(path)


class _Files:
    """Files by name, opened when their first line comes and moved into place when all is written."""

    def __init__(self, folder: Path):
        self._folder, self._stack = folder, ExitStack()
        self._writers: dict[str, SeekWriter] = {}
        self.n_lines: Counter[str] = Counter()

    def __enter__(self) -> "_Files":
        return self

    def __exit__(self, *error: object) -> None:
        with saved(self._folder):
            self._stack.__exit__(*error)

    def add(self, name: str, line: bytes, seeks: bool = False) -> None:
        """Write a line to the file of that name; seeks: it ends with its lines' offsets."""
        with saved(self._folder / name):
            if name not in self._writers:
                partial = self._stack.enter_context(partial_file(self._folder / name))
                self._writers[name] = self._stack.enter_context(SeekWriter(partial, seeks))
            self._writers[name].add(line)
        self.n_lines[name] += 1


def _read_marker(path: Path) -> dict:
    try:
        return orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
