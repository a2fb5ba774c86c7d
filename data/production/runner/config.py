"""Configs of runs: YAML that names an input, the stages in their order, and the output.

    inputs:  {jsonl_input: {paths: [datasets/videos.jsonl]}}
    stages:
      - metadata_filter: {min_height: 480}
      - pretrain_to_clips
      - to_conversation
    output:  {name: live_cc, parquet: false}
    shard_size: 1000

Every mistake is reported with file, line and the nearest valid name.
"""

import types
import typing
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from data.production.stage import Input, Stage, load_input, load_stage
from utils.errors import UserError, did_you_mean


@dataclass
class OutputOptions:
    """What is written at the end."""

    name: str = field(default="train", metadata={"help": "the training file is NAME_with_seeks.jsonl"})
    seeks: bool = field(default=True, metadata={"help": "end training files with a line of byte offsets, as published"})
    rejected: bool = field(default=True, metadata={"help": "write every rejected record to rejected.jsonl"})
    parquet: bool = field(default=False, metadata={"help": "write parquet/ too, with a data card for the hub"})
    license: str = field(default="other", metadata={"help": "license that the data card names"})


@dataclass
class RunConfig:
    """One run."""

    path: str
    input: Input
    stages: list[Stage]
    output: OutputOptions
    shard_size: int = 500


class _Node:
    """A YAML node with the place it stands at."""

    def __init__(self, node: yaml.Node, path: str):
        self.node, self.path = node, path

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.path}:{self.node.start_mark.line + 1}"

    def value(self) -> Any:
        """Plain Python."""
        return yaml.SafeLoader("").construct_document(self.node)

    def items(self, what: str) -> dict[str, "_Node"]:
        """The entries of a mapping; an empty node has none."""
        if isinstance(self.node, yaml.ScalarNode) and self.node.tag.endswith(":null"):
            return {}
        if not isinstance(self.node, yaml.MappingNode):
            raise UserError(f"{self.where}: {what} must be a mapping (name: value)")
        return {str(key.value): _Node(value, self.path) for key, value in self.node.value}

    def entries(self, what: str) -> list["_Node"]:
        """The entries of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise UserError(f"{self.where}: {what} must be a list (- name: options)")
        return [_Node(value, self.path) for value in self.node.value]


def read_run_config(path: str | Path, changes: list[str] | None = None) -> RunConfig:
    """A config file. changes: "STAGE.OPTION=VALUE" each, which replace the file's. Raises UserError for any mistake."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        root = yaml.compose(text, yaml.SafeLoader)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); see data/production/configs/ for examples"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(
            f"{path}:{line}: not YAML: {error.problem}; see data/production/configs/ for examples"
        ) from None
    if root is None:
        raise UserError(f"{path}: empty; see data/production/configs/ for examples")
    parts = _Node(root, str(path)).items("a config")
    known = ("inputs", "stages", "output", "shard_size")
    for name, node in parts.items():
        if name not in known:
            raise UserError(f"{node.where}: {name!r} is no part of a config{did_you_mean(name, known)}")
    for name in ("inputs", "stages"):
        if name not in parts:
            raise UserError(f"{path}: no {name}; a config has {', '.join(known)}")
    overrides = _overrides(changes or [])
    input_ = _named(parts["inputs"], "inputs", load_input, overrides)
    stages = [_stage(entry, overrides) for entry in parts["stages"].entries("stages")]
    unused = [name for name, values in overrides.items() if values]
    if unused:
        raise UserError(
            f"--set {unused[0]}: no such stage in {path}{did_you_mean(unused[0], [s.name for s in stages])}"
        )
    output = OutputOptions()
    if "output" in parts:
        options = {name: node.value() for name, node in parts["output"].items("output").items()}
        output = build_options(OutputOptions, options, parts["output"].where)
    size = parts["shard_size"].value() if "shard_size" in parts else RunConfig.shard_size
    if type(size) is not int or size < 1:
        raise UserError(f"{parts['shard_size'].where}: shard_size {size!r}; give a number of records from 1 on")
    return RunConfig(str(path), input_, stages, output, size)


def build_options(cls: type, values: dict[str, Any], where: str) -> Any:
    """An options dataclass from plain values, checked by name and type. Raises UserError that says where."""
    hints = typing.get_type_hints(cls)
    names = [f.name for f in fields(cls)]
    for name, value in values.items():
        if name not in names:
            raise UserError(
                f"{where}: no option {name!r} there{did_you_mean(name, names)}; it has {', '.join(names) or 'none'}"
            )
        values[name] = _typed(value, hints[name], f"{where}: {name}")
    missing = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    for name in missing:
        if name not in values:
            raise UserError(f"{where}: {name} must be given")
    return cls(**values)


def _stage(entry: _Node, overrides: dict[str, dict]) -> Stage:
    if isinstance(entry.node, yaml.ScalarNode):
        name = str(entry.node.value)
        return _made(name, {}, entry.where, load_stage, overrides)
    return _named(entry, "a stage", load_stage, overrides)


def _named(node: _Node, what: str, load: Any, overrides: dict[str, dict]) -> Any:
    items = node.items(what)
    if len(items) != 1:
        raise UserError(f"{node.where}: {what} must have one name with its options, not {', '.join(items) or 'none'}")
    ((name, options),) = items.items()
    values = {key: value.value() for key, value in options.items(f"the options of {name}").items()}
    return _made(name, values, options.where, load, overrides)


def _made(name: str, values: dict, where: str, load: Any, overrides: dict[str, dict]) -> Any:
    try:
        cls = load(name)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    return cls(build_options(cls.Options, {**values, **overrides.pop(name, {})}, where))


def _overrides(changes: list[str]) -> dict[str, dict]:
    found: dict[str, dict] = {}
    for change in changes:
        target, equals, text = change.partition("=")
        stage, dot, option = target.rpartition(".")
        if not (equals and dot and stage and option):
            raise UserError(f"--set {change}: give STAGE.OPTION=VALUE, such as lm_loss.max_loss=5")
        try:
            found.setdefault(stage, {})[option] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--set {change}: {text!r} is no value; quote it as in YAML") from None
    return found


def _typed(value: Any, hint: Any, where: str) -> Any:
    """The value as the field's type has it."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inside:
            return None
        return _typed(value, next(kind for kind in inside if kind is not type(None)), where)
    if origin is typing.Literal:
        if value not in inside:
            raise UserError(f"{where}: {value!r}; choose one of {', '.join(map(str, inside))}")
        return value
    if origin in (list, tuple):
        values = value if isinstance(value, list) else [value]
        return origin(_typed(item, inside[0], where) for item in values)
    if hint is float and type(value) is int:
        return float(value)
    if hint is float and isinstance(value, str):  # YAML reads 1e-3 as a string
        try:
            return float(value)
        except ValueError:
            pass
    if hint is Path and isinstance(value, str):
        return Path(value)
    if (
        hint is not Any
        and isinstance(hint, type)
        and (not isinstance(value, hint) or (type(value) is bool) != (hint is bool))
    ):
        raise UserError(f"{where}: {value!r} is not of type {hint.__name__}")
    return value
