"""Lateness of a commentary: whether the machine keeps up with the player, in words, with what to change."""

from collections import deque

LATE_S = 1.5  # a caption that comes later after its second is felt as late
N_STEPS = 4  # over which that is judged


class LatenessMonitor:
    """Judges the latest steps of one commentary."""

    def __init__(self):
        self._steps: deque[tuple[float, int]] = deque(maxlen=N_STEPS)
        self.is_late = False

    def judge(self, lag_s: float, n_dropped: int) -> bool | None:
        """Take a step: True where the machine does not keep up any more, False where it does again, else None.

        It does not where half of the latest steps were late or left frames out, and does again when none is or has.
        """
        self._steps.append((lag_s, n_dropped))
        n_bad = sum(lag > LATE_S or dropped > 0 for lag, dropped in self._steps)
        if not self.is_late and n_bad >= N_STEPS // 2:
            self.is_late = True
            return True
        if self.is_late and not n_bad:
            self.is_late = False
            return False
        return None

    def words(self, rate: float, quality: str | None, n_viewers: int) -> dict:
        """Message and advice for a page that is late. quality: None where the model has only one."""
        lag_s = max(lag for lag, _ in self._steps)
        n_dropped = sum(dropped for _, dropped in self._steps)
        message = f"This machine cannot keep up: captions come up to {lag_s:.1f} s late"
        message += f", and {n_dropped} pictures were skipped." if n_dropped else "."
        advice = []
        if rate > 1:
            advice.append("play at normal speed")
        if quality not in (None, "Fast"):
            advice.append("choose Fast under Quality or speed")
        if n_viewers > 1:
            advice.append(f"wait until fewer people watch ({n_viewers} do now)")
        advice.append("let the machine do nothing else, or use a faster one")
        return {"message": message, "advice": advice}
