"""Signals that end a command as exceptions, so that it keeps what it said it keeps."""

import signal
from typing import NoReturn

STOPPING = (signal.SIGTERM, signal.SIGHUP)  # SIGHUP: the terminal was closed


class Stopped(KeyboardInterrupt):
    """A signal has come that ends the command."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


def raise_on_stop() -> None:
    """Raise Stopped in the main thread at the first SIGTERM or SIGHUP, as SIGINT raises KeyboardInterrupt.

    Later ones are ignored: the end is under way. One that was ignored from the start (nohup) stays so.
    """
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, _frame) -> NoReturn:
    for other in STOPPING:
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)
