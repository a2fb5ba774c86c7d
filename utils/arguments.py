"""Command lines from dataclasses: every field is a flag, its metadata's "help" the help text.

A field whose metadata says "positional" is given by its place instead; a list takes one or more words, or any number
where it has a default. Limits of numbers ("ge", "gt", "le", "lt") and kinds of paths ("path") are metadata too, and are
checked before a command does anything.
"""

import copy
import difflib
import re
from argparse import ArgumentParser
from dataclasses import MISSING, Field, dataclass, field, is_dataclass
from types import MappingProxyType
from typing import Any, NoReturn, get_args, get_origin

from transformers.hf_argparser import HfArgumentParser

from utils.flag_values import check_values

ARGPARSE_METADATA = ("help", "aliases", "metavar", "choices")


def helped(default: Any, text: str, **metadata: Any) -> Any:
    """A dataclass field with its help text, and its limits or its kind of path (flag_values.py)."""
    return field(default=default, metadata={"help": text, **metadata})


@dataclass
class CommonArguments:
    """Flags that every command has."""

    debug: bool = field(default=False, metadata={"help": "show the traceback of an error"})


class CommandParser(HfArgumentParser):
    """HfArgumentParser that accepts no abbreviations and names the nearest flag when one is unknown."""

    @staticmethod
    def _parse_dataclass_field(parser: ArgumentParser, field: Field) -> None:
        if not field.metadata.get("positional"):
            HfArgumentParser._parse_dataclass_field(parser, _for_argparse(field))
            return
        metavar = field.metadata.get("metavar", field.name.upper())
        kind: dict[str, Any] = {"type": field.type}
        if get_origin(field.type) is list:
            kind = {"type": get_args(field.type)[0], "nargs": "+"}
            if field.default_factory is not MISSING:
                kind |= {"nargs": "*", "default": field.default_factory()}
        parser.add_argument(field.name, metavar=metavar, help=field.metadata["help"], **kind)

    def parse_args_into_dataclasses(self, *args, **kwargs) -> tuple:
        """Parse; raises UserError for a value of the right type that its flag cannot have."""
        parsed = super().parse_args_into_dataclasses(*args, **kwargs)
        for arguments in filter(is_dataclass, parsed):
            check_values(arguments)
        return parsed

    def error(self, message: str) -> NoReturn:
        unknown = re.findall(r"--[\w-]+", message) if "unrecognized" in message else []
        known = [flag for action in self._actions for flag in action.option_strings]
        for flag in unknown:
            for near in difflib.get_close_matches(flag, known, n=1):
                message += f"; did you mean {near}?"
        super().error(f"{message} (--help lists the flags)")


def _for_argparse(field: Field) -> Field:
    """The field without metadata that is its owner's own: the library gives all of it to argparse."""
    known = {name: value for name, value in field.metadata.items() if name in ARGPARSE_METADATA}
    plain = copy.copy(field)
    plain.metadata = MappingProxyType(known)
    return plain


def parse_arguments(*dataclass_types, description: str, argv: list[str] | None = None) -> tuple:
    """Parse `argv` (default: the process's) into one instance per dataclass, in the order given."""
    parser = CommandParser((*dataclass_types, CommonArguments), description=description, allow_abbrev=False)
    *parsed, unknown = parser.parse_args_into_dataclasses(args=argv, return_remaining_strings=True)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return tuple(parsed[: len(dataclass_types)])
