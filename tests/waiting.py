"""Waiting for what must come: on conditions, with a limit that only a broken program reaches on a busy machine."""

import time
from collections.abc import Callable

PATIENCE_S = 180.0


def until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait until the condition is true; AssertionError where it does not become so."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience_s:g} s"
        time.sleep(0.01)
