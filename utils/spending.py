"""What requests to a paid model cost, and the cap that they never pass."""

import threading
from dataclasses import dataclass

from utils.errors import UserError
from utils.ledger import Ledger


@dataclass(frozen=True)
class Prices:
    """Dollars per million tokens."""

    input: float
    output: float

    def cost(self, n_input: int, n_output: int) -> float:
        """Dollars for so many tokens."""
        return (n_input * self.input + n_output * self.output) / 1e6


# https://platform.openai.com/docs/pricing, without the discount for cached prompts
KNOWN_PRICES = {
    "gpt-4o-2024-05-13": Prices(5.00, 15.00),
    "gpt-4o-2024-08-06": Prices(2.50, 10.00),
    "gpt-4o-2024-11-20": Prices(2.50, 10.00),
    "gpt-4o-mini-2024-07-18": Prices(0.15, 0.60),
}


class CapReached(UserError):
    """The next request could cost more than is left."""


class Spending:
    """Tokens and dollars of the requests of one process, shared by its threads.

    prices: None where they are not known; then tokens are counted only. max_cost: dollars, of all processes that share
    `ledger` together. Raises UserError for a cap without prices.
    """

    def __init__(self, prices: Prices | None, max_cost: float | None = None, ledger: Ledger | None = None):
        if max_cost is not None and (prices is None or not max_cost >= 0):
            raise UserError(
                f"--max_cost {max_cost}: a cap is a number of dollars from 0 on, and needs prices that are known; give "
                "--price_input and --price_output, in dollars per million tokens"
            )
        self.prices, self.max_cost = prices, max_cost
        self.n_requests = self.n_cached = self.n_input = self.n_output = self.n_unsure = 0
        self.unsure = 0.0  # dollars at most of requests that may have been billed and did not say so
        self._before = 0.0
        self._ledger = ledger or Ledger()
        self._changed = threading.Condition()

    @property
    def is_shared(self) -> bool:
        """Whether the ledger outlives this process."""
        return self._ledger.is_shared

    @property
    def cost(self) -> float:
        """Dollars for the replies that came, by their own counts of tokens."""
        return self.prices.cost(self.n_input, self.n_output) if self.prices else 0.0

    def reserve(self, n_input: int, n_output: int) -> "Reservation":
        """Set aside what a request of at most so many tokens can cost, before it is sent.

        Waits for requests in flight where only they stand in its way. Raises CapReached where the rest is too small.
        """
        estimate = self.prices.cost(n_input, n_output) if self.prices else 0.0
        with self._changed:
            while True:
                with self._ledger.opened() as balance:
                    most = balance.factor * estimate
                    if self.max_cost is None or self._before + balance.taken + most <= self.max_cost:
                        balance.reserve(self._ledger.holder, most)
                        return Reservation(self, most, estimate)
                    self._ledger.count_dead(balance)
                    spent, must_wait = self._before + balance.spent, bool(balance.in_flight)
                if not must_wait:
                    raise CapReached(
                        f"--max_cost {self.max_cost:g} reached: ${spent:.4f} spent and the next request may cost "
                        f"${most:.4f}. What is done is kept; give a higher --max_cost to go on from there"
                    )
                self._changed.wait(self._ledger.look_again_s)

    def count_cached(self) -> None:
        """Count a reply that was at hand."""
        with self._changed:
            self.n_cached += 1

    def count_before(self, dollars: float) -> None:
        """Count what was spent before, and stands in no ledger, towards the cap."""
        self._before += dollars

    def close(self) -> None:
        """Leave the ledger to the others."""
        self._ledger.close()

    def summary(self) -> str:
        """Requests, tokens and dollars in one line."""
        tokens = f"{self.n_requests} replies, {self.n_cached} more from the cache, {self.n_input} tokens in, "
        tokens += f"{self.n_output} out: {self.dollars}"
        if self.n_unsure:
            most = f", at most ${self.unsure:.4f} more" if self.prices else ""
            tokens += f" ({self.n_unsure} requests that did not say what they cost may have been billed too{most})"
        return tokens

    @property
    def dollars(self) -> str:
        """The cost so far, for people."""
        return f"${self.cost:.4f}" if self.prices else "price unknown"

    def _settle(self, reservation: "Reservation", n_input: int, n_output: int) -> None:
        cost = self.prices.cost(n_input, n_output) if self.prices else 0.0
        with self._changed:
            self.n_requests += 1
            self.n_input, self.n_output = self.n_input + n_input, self.n_output + n_output
            with self._ledger.opened() as balance:
                balance.settle(self._ledger.holder, reservation.dollars, cost)
                if reservation.estimate:
                    balance.factor = max(balance.factor, cost / reservation.estimate)
            self._changed.notify_all()

    def _release(self, reserved: float, unsure: bool) -> None:
        with self._changed:
            if unsure:
                self.unsure, self.n_unsure = self.unsure + reserved, self.n_unsure + 1
            with self._ledger.opened() as balance:
                balance.settle(self._ledger.holder, reserved, reserved if unsure else 0.0)
            self._changed.notify_all()


class Reservation:
    """Money set aside for one request; left without a word, the request counts as possibly billed."""

    def __init__(self, spending: Spending, dollars: float, estimate: float):
        self.dollars, self.estimate = dollars, estimate
        self._spending, self._open = spending, True

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._spending._release(self.dollars, unsure=True)

    def settle(self, n_input: int, n_output: int) -> None:
        """A reply came, and says what it cost."""
        self._open = False
        self._spending._settle(self, n_input, n_output)

    def release(self) -> None:
        """Nothing was billed."""
        self._open = False
        self._spending._release(self.dollars, unsure=False)
