"""Ends a JSONL file with a line that lists the byte offset of every line before it, as in published training files.

    python -m data.production.append_jsonl_seeks train.jsonl

writes train_with_seeks.jsonl and its sidecar (data/samples/line_index.py), which this project reads. The published
script counted characters, so that files with any other letter than ASCII's were read at wrong places; these are bytes.
Memory stays small, whatever the number of lines. About 300 MB a second.
"""

import shutil
import sys
import tempfile
from array import array
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.samples.line_index import open_index
from utils.errors import UserError, run_command
from utils.files import partial_file

OFFSETS_AT_ONCE = 1 << 16
BUFFER = 1 << 18  # bytes


class SeekWriter:
    """A JSONL file that is written line by line and can end with its offsets, which wait in a file of their own."""

    def __init__(self, path: Path, seeks: bool = True):
        self._file = path.open("wb", buffering=BUFFER)
        self._list = tempfile.TemporaryFile(dir=path.parent) if seeks else None  # noqa: SIM115 - closed with the file
        self._offsets, self._at = array("Q"), 0

    def add(self, line: bytes) -> None:
        """Write a line, given without its end."""
        if self._list:
            self._offsets.append(self._at)
            if len(self._offsets) == OFFSETS_AT_ONCE:
                self._write_offsets()
        self._file.write(line)
        self._file.write(b"\n")
        self._at += len(line) + 1

    def __enter__(self) -> "SeekWriter":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        """Write the offsets, unless something went wrong, and close the file."""
        with self._file, self._list or nullcontext():
            if self._list and kind is None:
                self._write_offsets()
                self._list.seek(0)
                self._file.write(b"[")
                shutil.copyfileobj(self._list, self._file, BUFFER)
                self._file.write(b"]\n")

    def _write_offsets(self) -> None:
        if self._offsets:
            text = ", ".join(map(str, self._offsets))
            self._list.write(((", " if self._list.tell() else "") + text).encode())
            self._offsets = array("Q")


@dataclass
class SeekArguments:
    """Which file."""

    file: str = field(
        metadata={"positional": True, "metavar": "FILE.jsonl", "help": "JSONL file, one sample a line", "path": "file"}
    )
    output: Path | None = field(
        default=None, metadata={"help": "default: FILE_with_seeks.jsonl", "path": "output_file"}
    )


def append_seeks(source: Path, target: Path) -> int:
    """Copy the samples of a file and end it with their offsets; returns how many. A list that is there is replaced."""
    index = open_index(source)
    try:
        with partial_file(target) as partial, SeekWriter(partial) as writer, source.open("rb", 1 << 20) as lines:
            for line in islice((line for line in map(bytes.strip, lines) if line), len(index)):
                writer.add(line)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error}); give another --output") from error
    open_index(target)
    return len(index)


def main() -> None:
    """Run the command."""
    from utils.arguments import parse_arguments

    (arguments,) = parse_arguments(SeekArguments, description=__doc__.splitlines()[0])
    source = Path(arguments.file)
    target = arguments.output or source.with_name(f"{source.stem}_with_seeks{source.suffix}")
    n = append_seeks(source, target)
    print(f"{n} samples in {target}")


if __name__ == "__main__":
    run_command(main)
