"""What requests to a paid model cost, and the cap that they never pass."""

import threading
from dataclasses import dataclass

from utils.errors import UserError


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
    """Tokens and dollars of the requests of one run, shared by its threads.

    prices: None where they are not known; then tokens are counted only. max_cost: dollars. Raises UserError for a cap
    without prices.
    """

    def __init__(self, prices: Prices | None, max_cost: float | None = None):
        if max_cost is not None and (prices is None or not max_cost >= 0):
            raise UserError(
                f"--max_cost {max_cost}: a cap is a number of dollars from 0 on, and needs prices that are known; give "
                "--price_input and --price_output, in dollars per million tokens"
            )
        self.prices, self.max_cost = prices, max_cost
        self.n_requests = self.n_cached = self.n_input = self.n_output = self.n_unsure = 0
        self.unsure = 0.0  # dollars at most of requests that may have been billed and did not say so
        self._in_flight, self._n_in_flight = 0.0, 0
        self._factor = 1.0  # by how much an estimate was exceeded at most
        self._changed = threading.Condition()

    @property
    def cost(self) -> float:
        """Dollars for the replies that came, by their own counts of tokens."""
        return self.prices.cost(self.n_input, self.n_output) if self.prices else 0.0

    def reserve(self, n_input: int, n_output: int) -> "Reservation":
        """Set aside what a request of at most so many tokens can cost, before it is sent.

        Waits for requests in flight where only they stand in its way. Raises CapReached where the rest is too small.
        """
        with self._changed:
            while True:
                most = self._factor * self.prices.cost(n_input, n_output) if self.prices else 0.0
                taken = self.cost + self.unsure
                if self.max_cost is None or taken + self._in_flight + most <= self.max_cost:
                    self._in_flight += most
                    self._n_in_flight += 1
                    return Reservation(self, most)
                if not self._n_in_flight:
                    raise CapReached(
                        f"--max_cost {self.max_cost:g} reached: ${taken:.4f} spent and the next request may cost "
                        f"${most:.4f}. What is done is kept; give a higher --max_cost to go on from there"
                    )
                self._changed.wait()

    def count_cached(self) -> None:
        """Count a reply that was at hand."""
        with self._changed:
            self.n_cached += 1

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

    def _settle(self, reserved: float, n_input: int, n_output: int) -> None:
        with self._changed:
            self._free(reserved)
            self.n_requests += 1
            self.n_input, self.n_output = self.n_input + n_input, self.n_output + n_output
            if reserved:
                self._factor = max(self._factor, self._factor * self.prices.cost(n_input, n_output) / reserved)

    def _release(self, reserved: float, unsure: bool) -> None:
        with self._changed:
            self._free(reserved)
            if unsure:
                self.unsure, self.n_unsure = self.unsure + reserved, self.n_unsure + 1

    def _free(self, reserved: float) -> None:
        self._n_in_flight -= 1
        self._in_flight = self._in_flight - reserved if self._n_in_flight else 0.0  # not what rounding leaves
        self._changed.notify_all()


class Reservation:
    """Money set aside for one request; left without a word, the request counts as possibly billed."""

    def __init__(self, spending: Spending, dollars: float):
        self._spending, self._dollars, self._open = spending, dollars, True

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._spending._release(self._dollars, unsure=True)

    def settle(self, n_input: int, n_output: int) -> None:
        """A reply came, and says what it cost."""
        self._open = False
        self._spending._settle(self._dollars, n_input, n_output)

    def release(self) -> None:
        """Nothing was billed."""
        self._open = False
        self._spending._release(self._dollars, unsure=False)
