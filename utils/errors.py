"""Errors meant for the person at the keyboard, and the one place that prints them."""

import difflib
import os
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterable

# What libraries raise for values and paths that cannot work, and for what fails while it runs.
BAD_INPUT = (
    ValueError,
    OverflowError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    PermissionError,
)
FAILURES = (OSError, RuntimeError, MemoryError)
MAX_CHARACTERS = 600  # of a library's message


class UserError(Exception):
    """Bad input: the message alone says what is wrong, where, and what to do next."""


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's main function and leave the process with its exit status.

    A `UserError` is printed as one message on stderr and ends with status 2. So is what a library says of a value or a
    path, as one line; what went wrong while it ran (memory, a full disk, a device) ends with status 1. `--debug` on
    the command line shows the traceback as well. Other exceptions are faults of the program and show theirs always. A
    reader that closes our output early (`| head`) ends the command quietly.
    """
    try:
        status = main() or 0
        sys.stdout.flush()
    except UserError as error:
        status = report(str(error), 2)
    except BrokenPipeError:
        # The interpreter would flush stdout once more at exit and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except KeyboardInterrupt as stop:
        status = 128 + getattr(stop, "number", signal.SIGINT)
    except (*BAD_INPUT, *FAILURES) as error:
        message = f"{one_line(error)} ({type(error).__name__}; --debug shows where)"
        status = report(message, 2 if isinstance(error, BAD_INPUT) else 1)
    sys.exit(status)


def report(message: str, status: int) -> int:
    """Print an error, under `--debug` with its traceback; returns `status`."""
    if "--debug" in sys.argv:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return status


def one_line(error: BaseException) -> str:
    """Text of a library's error in one line, its end left out where it is long."""
    return textwrap.shorten(str(error) or type(error).__name__, MAX_CHARACTERS, placeholder=" ...")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a mistyped name: the nearest valid one, "" where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
