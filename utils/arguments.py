"""Command lines from dataclasses: every field is a flag, its metadata's "help" the help text."""

import difflib
import re
from dataclasses import dataclass, field
from typing import NoReturn

from transformers.hf_argparser import HfArgumentParser


@dataclass
class CommonArguments:
    """Flags that every command has."""

    debug: bool = field(default=False, metadata={"help": "show the traceback of an error"})


class CommandParser(HfArgumentParser):
    """HfArgumentParser that accepts no abbreviations and names the nearest flag when one is unknown."""

    def error(self, message: str) -> NoReturn:
        unknown = re.findall(r"--[\w-]+", message) if "unrecognized" in message else []
        known = [flag for action in self._actions for flag in action.option_strings]
        for flag in unknown:
            for near in difflib.get_close_matches(flag, known, n=1):
                message += f"; did you mean {near}?"
        super().error(f"{message} (--help lists the flags)")


def parse_arguments(*dataclass_types, description: str, argv: list[str] | None = None) -> tuple:
    """Parse `argv` (default: the process's) into one instance per dataclass, in the order given."""
    parser = CommandParser((*dataclass_types, CommonArguments), description=description, allow_abbrev=False)
    *parsed, unknown = parser.parse_args_into_dataclasses(args=argv, return_remaining_strings=True)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return tuple(parsed[: len(dataclass_types)])
