"""Files of JSON lines: looked at once when they are opened, then read at random, one `pread` a line."""

import codecs
import json
import os
from collections.abc import Callable
from pathlib import Path

from data.samples.line_index import file_identity, open_index
from utils.errors import UserError
from utils.file_kinds import FileKind, kind_of

LOOKED_AT = 1 << 16  # bytes
JSON_LINES = "a file of JSON lines, one sample a line"
SHOWN_CHARACTERS = 60
ARRAY = ("a JSON array", "write each row on a line of its own: jq -c '.[]' FILE > FILE.jsonl")
SEVERAL_LINES = ("JSON over several lines", "write it on one: jq -c . FILE > FILE.jsonl")


class JsonLines:
    """The lines of one file by number, blank ones left out.

    Can be pickled and used in forked and spawned workers. Opening raises UserError for a file that is missing, holds
    no lines, or is something else, which it names.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._fd: int | None = None
        if self.path.is_file() and os.access(self.path, os.R_OK):
            require_json_lines(self.path, explain=self._explain)
        self._index = open_index(self.path)

    def _explain(self, row: object) -> str:
        """What is to be said of the first row of a JSON array: the end of a message."""
        return ""

    def __len__(self) -> int:
        return len(self._index)

    def line(self, i: int) -> bytes:
        """Line i as it stands in the file, without its line end."""
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path}: sample {i} of {len(self)}")
        start, stop = self._index.span(i)
        return self._read(start, stop).strip()

    def lines(self, start: int, stop: int) -> list[tuple[int, bytes]]:
        """Line number and line of samples [start, stop), read at once."""
        if not 0 <= start < stop <= len(self):
            raise IndexError(f"{self.path}: samples {start} to {stop} of {len(self)}")
        text = self._read(self._index.span(start)[0], self._index.span(stop - 1)[1])
        numbered = enumerate(text.split(b"\n"), start=self.line_no(start))
        lines = [(line_no, stripped) for line_no, line in numbered if (stripped := line.strip())]
        if len(lines) != stop - start:
            raise UserError(f"{self.path}: changed while it was in use; start again")
        return lines

    def line_no(self, i: int) -> int:
        """Number of line i as an editor counts: from 1, blank lines included."""
        return self._index.line_no(i)

    def _read(self, start: int, stop: int) -> bytes:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        # pread moves no file position, so forked processes can share the descriptor.
        return os.pread(self._fd, stop - start, start)

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __del__(self):
        if getattr(self, "_fd", None) is not None:
            self.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_fd": None, "_index": None, "identity": file_identity(self.path)}

    def __setstate__(self, state: dict) -> None:
        if file_identity(state["path"]) != state.pop("identity"):
            raise UserError(f"{state['path']}: changed while it was in use; start again")
        self.__dict__.update(state)
        self._index = open_index(self.path)


def require_json_lines(
    path: Path, wanted: str = JSON_LINES, arrays: bool = False, explain: Callable[[object], str] = lambda row: ""
) -> None:
    """Raise UserError, which names what the file is, where its first bytes are not those of JSON lines.

    arrays: a JSON array of rows will do too; explain: what the message says of the first row of one that will not.
    """
    with open(path, "rb") as file:
        head = file.read(LOOKED_AT)
    kind, begins = kind_of(head), head.removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    if begins and not (kind.is_text if kind else begins in b"[{"):
        kind = kind or FileKind("binary data")
        raise UserError(f"{path}: {kind.instead_of(wanted, f'give {wanted}')}")
    text = head.decode("utf-8-sig", "replace").lstrip()
    found = _other_form(text)
    if found is None or (arrays and found is ARRAY):
        return
    what, remedy = found
    more = explain(_first_row(text))
    raise UserError(f"{path}: this is {what}, not {wanted}; {remedy}{more and f'; {more}'}")


def _other_form(text: str) -> tuple[str, str] | None:
    """What text is that does not begin as JSON lines do, and what to do: an array, JSON over several lines, no JSON."""
    lines = [line for line in text.split("\n") if line.strip()]
    if text.startswith(("[", "{")):
        return _other_json(lines[0].strip(), lines[1] if len(lines) > 1 else "", text)
    is_text = len(lines) > 2 and not any(map(_is_json, lines))
    first = lines[0][:SHOWN_CHARACTERS].strip() if lines else ""
    return (f"text whose first line is {first!r}", f"give {JSON_LINES}") if is_text else None


def _other_json(first: str, second: str, text: str) -> tuple[str, str] | None:
    """The same of text that begins with a bracket."""
    if first == "[":
        return ARRAY
    if second.startswith(text[0]) and not first.endswith(","):  # lines, whatever is wrong with the first
        return None
    row = _first_row(text)
    is_row = isinstance(row, list) or (isinstance(row, dict) and not row.keys() & {"role", "content", "from"})
    if is_row or (text[0] == "[" and text[1:].lstrip().startswith("[")):
        return ARRAY
    return SEVERAL_LINES if second and first.endswith(("[", "{", ",", ":")) else None


def _is_json(line: str) -> bool:
    """Whether a line may be JSON: an array, an object, or one written as a string, as some benchmarks have it."""
    return line.lstrip().startswith(("[", "{", '"{', '"['))


def _first_row(text: str) -> object:
    """What stands behind a first [, None where it is cut off or damaged."""
    inside = text[1:].lstrip()
    try:
        return json.JSONDecoder().raw_decode(inside)[0] if text[0] == "[" else None
    except (ValueError, RecursionError):
        return None
