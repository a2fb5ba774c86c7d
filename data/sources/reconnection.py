"""Reconnection policy: when a live source counts as lost, and how often it is opened again."""

from dataclasses import dataclass

from utils.errors import UserError


@dataclass(frozen=True)
class Reconnection:
    """Policy: close a source from which no frame came for stall_s, and open it again after 0.5, 1, 2, 4 ... s.

    The wait starts anew once a frame has come. max_retries: attempts one after the other that may fail; None: any
    number. Raises UserError for values that cannot work.
    """

    stall_s: float = 10.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    max_retries: int | None = None

    def __post_init__(self):
        if not self.stall_s > 0:
            raise UserError(f"stall_s {self.stall_s}: seconds without a frame; must be above 0, 10 by default")
        if self.max_retries is not None and self.max_retries < 0:
            raise UserError(f"max_retries {self.max_retries}: must be 0 or more; leave it out to try for ever")

    def wait_s(self, n_failed: int) -> float:
        """Return how long to wait after the n-th failure in a row, n from 1."""
        return min(self.first_wait_s * 2 ** min(n_failed - 1, 30), self.longest_wait_s)
