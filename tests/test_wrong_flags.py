"""Every flag of every command with values that are wrong by kind: status 2, one message, nothing written."""

import os
import runpy
import sys
import types
from collections.abc import Iterator
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import get_args

import pytest

from tests.commands import Script, find_scripts
from tests.conftest import REPOSITORY
from utils.arguments import CommandParser
from utils.errors import run_command

COMMANDS = [script for script in find_scripts(REPOSITORY) if not script.path.startswith("dev/")]
HUGE = "1" + "0" * 400
FINE = {"file": "a_file", "folder": "."}  # words for paths of these kinds, where the test runs
ALSO = {
    "data/preview/__main__.py": {"--index": "0"},
    "evaluation/livesports3kcc/distributed_generate_caption.py": {"--model_name_or_path": "new"},
}
NO_UTF8 = os.fsdecode(b"caf\xe9")


@dataclass(frozen=True)
class Flag:
    """A flag of a command, and the words that the command needs besides."""

    script: Script
    field: Field
    owner: str
    required: dict[str, str]  # words by their flags; places have names without --

    def words(self, value: str) -> list[str]:
        name = self.field.name if self.field.metadata.get("positional") else f"--{self.field.name}"
        words = self.required | {name: value}
        return [f"{name}={word}" if name.startswith("--") else word for name, word in words.items()]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Run a command in this process: (status, standard error)."""

    def run(script: Script, *words: str) -> tuple[int | str | None, str]:
        monkeypatch.setattr(sys, "argv", [script.path, *words])
        status = None
        try:
            runpy.run_module(script.module, run_name="__main__")
        except SystemExit as end:
            status = end.code
        return status, capfd.readouterr().err

    return run


@pytest.fixture
def flags(started, monkeypatch: pytest.MonkeyPatch) -> list[Flag]:
    """Every flag once for each dataclass that declares it, whichever commands share it."""
    parsers = []
    parse = CommandParser.parse_args_into_dataclasses

    def watched(self, *args, **kwargs):
        parsers.append(self)
        return parse(self, *args, **kwargs)

    monkeypatch.setattr(CommandParser, "parse_args_into_dataclasses", watched)
    found = {}
    for script in COMMANDS:
        assert started(script, "--help")[0] in (0, None)
        parser = parsers.pop()
        every = [(cls, field) for cls in parser.dataclass_types for field in fields(cls)]
        paths = {field.name: field.metadata.get("path") for _, field in every}
        required = {
            (action.option_strings or [action.dest])[0]: FINE.get(paths.get(action.dest), "new")
            for action in parser._actions
            if action.required
        } | ALSO.get(script.path, {})
        for cls, field in every:
            found.setdefault((cls.__qualname__, field.name), Flag(script, field, cls.__qualname__, required))
    return list(found.values())


def types_of(field: Field) -> set[type]:
    """The plain types that a flag's value may have."""
    given = get_args(field.type) if isinstance(field.type, types.UnionType) else (field.type,)
    return {inner for one in given for inner in (get_args(one) if getattr(one, "__origin__", None) is list else (one,))}


def wrong_values(field: Field, here: Path) -> Iterator[str]:
    """Values that the flag cannot have."""
    kinds = types_of(field)
    if kinds & {int, float} and str not in kinds:
        yield from ("nan", "inf", HUGE, "many")
        limits = field.metadata
        if not (isinstance(field.default, (int, float)) and field.default < 0) and limits.get("ge", 0) >= 0:
            yield "-1"
        if limits.get("gt", -1) >= 0 or limits.get("ge", 0) > 0:
            yield "0"
        if "le" in limits or "lt" in limits:
            yield str(limits.get("le", limits.get("lt")) + 1)
    elif kinds & {str, Path}:
        yield NO_UTF8
        if path := field.metadata.get("path"):
            yield "x" * 300
            yield str(here / "a_file") if path == "folder" else str(here / "a_file" / "below")
            yield str(here / "a_file") if path == "output_folder" else str(here) if "file" in path else "missing"


def names(message: str, flag: Flag) -> bool:
    """Whether a message names the flag; the library's own checks of its own flags need not."""
    words = {flag.field.name, *flag.field.metadata.get("aliases", ())}
    return flag.owner == "TrainArguments" or any(word.lower() in message.lower() for word in words)


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
def test_wrong_values_end_with_one_message(flags: list[Flag], started, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("")
    failures, n = [], 0
    for flag in flags:
        for value in wrong_values(flag.field, tmp_path):
            n += 1
            status, said = started(flag.script, *flag.words(value))
            messages = [line for line in said.splitlines() if "error: " in line]
            if status != 2 or len(messages) != 1 or "Traceback" in said or not names(messages[0], flag):
                failures.append((flag.script.path, flag.field.name, value[:20], status, said[-300:]))
    assert not failures, f"{len(failures)} of {n}: {failures[:20]}"
    assert n > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("two\nlines"), 2),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), 2),
        (OverflowError("too large"), 2),
        (FileNotFoundError(2, "No such file or directory", "films/none.mp4"), 2),
        (PermissionError(13, "Permission denied", "/root"), 2),
        (OSError(28, "No space left on device"), 1),
        (RuntimeError("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA"), 1),
        (MemoryError(), 1),
    ],
)
def test_errors_of_libraries_are_one_line(error: Exception, status: int, capsys, monkeypatch):
    def main() -> None:
        raise error

    for words, n_tracebacks in ((["command"], 0), (["command", "--debug"], 1)):
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as end:
            run_command(main)
        said = capsys.readouterr().err
        assert end.value.code == status and said.count("Traceback") == n_tracebacks
        assert said.splitlines()[-1].startswith("error: ") and type(error).__name__ in said.splitlines()[-1]
        assert n_tracebacks or said.count("\n") == 1


def test_a_fault_of_the_program_shows_where(monkeypatch):
    def main() -> None:
        raise KeyError("forgotten")

    with pytest.raises(KeyError):
        run_command(main)
