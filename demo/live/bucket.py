"""Token bucket: how often something may happen."""

from dataclasses import dataclass, field

BURST_S = 2.0


@dataclass
class TokenBucket:
    """Allows `rate` a second on average, and those of 2 s at once. Times are a monotonic clock's seconds."""

    rate: float
    _level: float = field(init=False)
    _since_s: float | None = field(default=None, init=False)

    def __post_init__(self):
        self._level = self.capacity

    @property
    def capacity(self) -> float:
        """The most that may happen at once."""
        return max(1.0, self.rate * BURST_S)

    def take(self, now_s: float) -> float:
        """Take one token: 0, or how many seconds there is none yet."""
        if self._since_s is not None:
            self._level = min(self.capacity, self._level + (now_s - self._since_s) * self.rate)
        self._since_s = now_s
        if self._level < 1:
            return (1 - self._level) / self.rate
        self._level -= 1
        return 0.0
