"""Errors meant for the person at the keyboard, and the one place that prints them."""

import difflib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Bad input: the message alone says what is wrong, where, and what to do next."""


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command's main function and leave the process with its exit status.

    A `UserError` is printed as one message on stderr and ends with status 2; `--debug` on the command line shows
    its traceback as well. A reader that closes our output early (`| head`) ends the command quietly.
    """
    try:
        status = main() or 0
        sys.stdout.flush()
    except UserError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except BrokenPipeError:
        # The interpreter would flush stdout once more at exit and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    sys.exit(status)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about a mistyped name: the nearest valid one, "" where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
