"""Rows of a benchmark: from a file, from a folder copied from the hub, or from the hub itself."""

import csv
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from evaluation.tasks.lines import BenchmarkLine, read_benchmark
from utils.errors import UserError


@dataclass(frozen=True)
class HubSet:
    """One split of a data set on the Hugging Face hub. config: which of its tables, where it has several."""

    id: str
    config: str | None = None
    split: str = "test"

    @property
    def folder(self) -> Path:
        """Where a copy of it is expected."""
        return Path("datasets") / self.id.rsplit("/", 1)[-1]

    @property
    def command(self) -> str:
        """What copies it there."""
        return f"hf download {self.id} --repo-type dataset --local-dir {self.folder.as_posix()}"


def read_rows(
    name: str, hub: HubSet, limit: int | None = None, skipped: list[str] | None = None
) -> list[BenchmarkLine]:
    """The rows of a file (.jsonl, .json, .csv, .tsv, .parquet), of a folder copied from the hub, or of a hub id.

    limit: only the first ones. skipped: gains what is wrong with lines that are left out. Raises UserError where there
    are none, with the command that gets them.
    """
    path = Path(name)
    lines = functools.partial(read_benchmark, skipped=skipped)
    readers = {".jsonl": lines, ".json": lines, ".csv": _csv_lines, ".tsv": _csv_lines, ".parquet": _parquet_lines}
    if path.is_file() and path.suffix not in readers:
        raise UserError(f"{path}: rows are read from files that end in {', '.join(readers)}")
    if not path.exists() and (path.suffix in readers or name.count("/") != 1):
        raise UserError(f"{path}: no such file or folder; get it with: {hub.command}")
    read = readers[path.suffix] if path.is_file() else lambda path, limit: _dataset_lines(name, hub, limit)
    rows = list(read(path, limit))
    if not rows:
        raise UserError(f"{path}: no rows in it; get them with: {hub.command}")
    return rows


def video_folders(name: str, hub: HubSet, video_dir: str | None = None) -> list[Path]:
    """Where the videos of such rows are looked for: the folder that a user names, else beside the rows."""
    if video_dir:
        return [Path(video_dir)]
    path = Path(name)
    beside = path.parent if path.is_file() else path if path.is_dir() else hub.folder
    return [beside / "videos", beside]


def _csv_lines(path: Path, limit: int | None) -> Iterator[BenchmarkLine]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, delimiter="\t" if path.suffix == ".tsv" else ",")
            for n_read, fields in enumerate(reader):
                if limit is not None and n_read >= limit:
                    return
                if None in fields or None in fields.values():
                    raise UserError(f"{path}, line {reader.line_num}: not as many values as the header has names")
                yield BenchmarkLine(path, reader.line_num, fields)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from error


def _parquet_lines(path: Path, limit: int | None) -> Iterator[BenchmarkLine]:
    import pyarrow  # with `datasets`, and slow to import
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path).slice(0, limit)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as parquet ({error})") from error
    return _numbered(path, table.to_pylist())


def _dataset_lines(name: str, hub: HubSet, limit: int | None) -> Iterator[BenchmarkLine]:
    import datasets  # slow to import

    try:
        rows = datasets.load_dataset(name, hub.config, split=hub.split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{name}: its rows {hub.config or ''} {hub.split} cannot be loaded ({reason}); where this machine reaches "
            f"the hub, get them with: {hub.command}, and name that folder"
        ) from error
    return _numbered(Path(name), rows if limit is None else rows.select(range(min(limit, len(rows)))))


def _numbered(path: Path, rows: Iterable[dict]) -> Iterator[BenchmarkLine]:
    return (BenchmarkLine(path, number, dict(row)) for number, row in enumerate(rows, start=1))
