"""Signals that end a run: it saves at the end of the step, and its status tells which signal it was."""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from transformers import TrainerCallback

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
TOGETHER_S = 2.0  # torchrun passes on what the terminal has sent to its processes already


class Stopping(TrainerCallback):
    """Saves and ends the training after the step in which a signal came, on all processes after the same one.

    grace_s: how long the step may still take; then the process leaves without saving, and the last checkpoint stays.
    A second SIGINT of the user's leaves at once. exchange: a value -> those of all processes.
    """

    def __init__(self, grace_s: float, exchange: Callable[[Any], list]) -> None:
        self.grace_s, self.exchange = grace_s, exchange
        self.signal: signal.Signals | None = None
        self._since_s = 0.0
        self._timer: threading.Timer | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over; outside of the main thread, which alone gets them, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._take) for number in SIGNALS}
        try:
            yield
        finally:
            self._end_timer()
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def status(self) -> int:
        """Exit status: 128 and the signal's number; 0 without one."""
        return 128 + self.signal if self.signal else 0

    def on_step_end(self, args, state, control, **kwargs) -> None:
        signals = [number for number in self.exchange(self.signal) if number]
        if signals and state.global_step < state.max_steps:
            self.signal = self.signal or signals[0]
            self._end_timer()
            control.should_save = control.should_training_stop = True

    def _take(self, number: int, frame: object) -> None:
        if self.signal:
            if number == signal.SIGINT and time.monotonic() - self._since_s > TOGETHER_S:
                raise KeyboardInterrupt
            return
        self.signal, self._since_s = signal.Signals(number), time.monotonic()
        logger.warning(
            "%s: saving at the end of this step, if it ends within %g s (--signal_grace_s)",
            self.signal.name,
            self.grace_s,
        )
        self._timer = threading.Timer(self.grace_s, self._leave)
        self._timer.daemon = True
        self._timer.start()

    def _leave(self) -> None:
        logger.warning(
            "the step did not end within --signal_grace_s %g: leaving without saving; the same command goes on from "
            "the last checkpoint",
            self.grace_s,
        )
        os._exit(self.status)

    def _end_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
