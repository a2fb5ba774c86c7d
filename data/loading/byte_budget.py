"""Byte budget of the loader's workers: a sample that is ready waits until there is room for it.

Counted are samples handed over and not yet taken. A worker that waits holds one sample of its own. The sample that
is taken next never waits, so workers cannot wait for each other.
"""

import ctypes
import time

POLL_S = 0.005
LOCK_TIMEOUT_S = 1.0  # how soon a worker notices close() where another was killed with the lock


class ByteBudget:
    """Room for `limit` bytes between workers and the one process that takes what they make, in order.

    context: multiprocessing's start method. Travels to workers when they are started.
    """

    def __init__(self, limit: int, context) -> None:
        self.limit = limit
        # Each number has one writer at a time, and is written whole: the owner's need no lock, which a process
        # killed at the wrong moment would keep for ever. Among workers a lock makes check and claim one step.
        self._handed_over = context.RawValue(ctypes.c_int64, 0)
        self._taken = context.RawValue(ctypes.c_int64, 0)
        self._next = context.RawValue(ctypes.c_int64, 0)
        self._most = context.RawValue(ctypes.c_int64, 0)
        self._is_closed = context.RawValue(ctypes.c_bool, False)
        self._lock = context.Lock()

    @property
    def most_ready(self) -> int:
        """The most bytes that have been handed over and not yet taken."""
        return self._most.value

    def hand_over(self, number: int, n_bytes: int) -> None:
        """In a worker: wait until sample `number`, counted from 0, may be handed over."""
        while not self._is_closed.value and not self._claim(number, n_bytes):
            time.sleep(POLL_S)

    def take(self, n_bytes: int) -> None:
        """In the owner: the next sample has been taken."""
        self._taken.value += n_bytes
        self._next.value += 1

    def close(self) -> None:
        """In the owner: nothing more will be taken, so nobody needs to wait."""
        self._is_closed.value = True

    def _claim(self, number: int, n_bytes: int) -> bool:
        if not self._lock.acquire(timeout=LOCK_TIMEOUT_S):
            return False
        try:
            ready = self._handed_over.value - self._taken.value + n_bytes
            if ready > self.limit and number > self._next.value:
                return False
            self._handed_over.value += n_bytes
            self._most.value = max(self._most.value, ready)
            return True
        finally:
            self._lock.release()
