"""What requests to a paid model have cost and may still cost, and the cap that they never pass: a budget, whose balance
is in memory for one process, or in a file for all processes of a run."""

import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import orjson

from utils.errors import UserError
from utils.files import write_whole


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


@dataclass
class Balance:
    """Dollars. spent: of replies, and at most of requests that may have been billed and did not say so. in_flight: of
    each process, the number of requests that it waits for and what they can cost. factor: by how much an estimate was
    exceeded at most."""

    spent: float = 0.0
    factor: float = 1.0
    in_flight: dict[str, list] = field(default_factory=dict)

    @property
    def taken(self) -> float:
        """What is not free any more."""
        return self.spent + sum(dollars for _, dollars in self.in_flight.values())

    def reserve(self, holder: str, dollars: float) -> None:
        """Set aside what a request can cost."""
        n, before = self.in_flight.get(holder, (0, 0.0))
        self.in_flight[holder] = [n + 1, before + dollars]

    def settle(self, holder: str, reserved: float, spent: float) -> None:
        """Put what a request has cost in the place of what it could."""
        self.spent += spent
        n, before = self.in_flight.pop(holder, (1, 0.0))
        if n > 1:  # with the last one goes what rounding leaves
            self.in_flight[holder] = [n - 1, before - reserved]


class Account:
    """The balance of one process; its threads take turns by themselves."""

    holder = "here"
    is_shared = False
    look_again_s: float | None = None  # who waits is told

    def __init__(self) -> None:
        self._balance = Balance()

    @contextmanager
    def opened(self) -> Iterator[Balance]:
        """The balance, to be read and changed while nobody else does."""
        yield self._balance

    def count_dead(self, balance: Balance) -> None:
        """Count the requests of processes that died in the middle of them as spent."""

    def close(self) -> None:
        """Keep nothing open."""


class SharedAccount(Account):
    """The same in a folder, for all processes and machines that see it, and over kills.

        NAME.json              the balance, replaced whole
        NAME.lock              locked while it is read and changed
        NAME-HOST-PID-0.lock   locked by a process for as long as it lives

    The kernel frees the locks of a process that dies. What its requests could cost at most counts as spent from then
    on: they may have been billed. Raises UserError where nothing can be kept there.
    """

    is_shared = True
    look_again_s = 0.1

    def __init__(self, folder: Path, name: str = "spending"):
        self._folder, self._name, self._path = folder, name, folder / f"{name}.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = (folder / f"{name}.lock").open("ab")
        except OSError as error:
            raise UserError(f"{folder}: nothing can be kept there ({error}); give another output folder") from error
        with self.opened() as balance:
            self.holder, self._life = self._begin()
            self.count_dead(balance)

    @contextmanager
    def opened(self) -> Iterator[Balance]:
        """The balance, locked in its file while it is open."""
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            balance = self._read()
            before = asdict(balance)
            yield balance
            if asdict(balance) != before:
                write_whole(self._path, orjson.dumps(asdict(balance)), "free some space and run again")
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def count_dead(self, balance: Balance) -> None:
        """Count the requests of processes that died in the middle of them as spent; the balance must be open."""
        for path in self._folder.glob(f"{self._name}-*.lock"):
            if path.stem != self.holder and not _is_locked(path):
                path.unlink(missing_ok=True)
        for holder, (_, dollars) in list(balance.in_flight.items()):
            if not (self._folder / f"{holder}.lock").exists():
                balance.spent += dollars
                del balance.in_flight[holder]

    def close(self) -> None:
        """Leave the file to the others; requests that are still in flight count as spent."""
        (self._folder / f"{self.holder}.lock").unlink(missing_ok=True)
        self._life.close()
        self._lock.close()

    def _begin(self) -> tuple[str, BinaryIO]:
        """A name that no other process has, and its lock."""
        number = 0
        while True:
            holder = f"{self._name}-{socket.gethostname()}-{os.getpid()}-{number}"
            try:
                life = (self._folder / f"{holder}.lock").open("xb")
            except FileExistsError:
                number += 1
                continue
            fcntl.flock(life, fcntl.LOCK_EX)
            return holder, life

    def _read(self) -> Balance:
        try:
            return Balance(**orjson.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return Balance()
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{self._path}: what was spent cannot be read ({error}); move it away, and the cap counts kept replies "
                "without it"
            ) from None


class Budget:
    """Tokens and dollars of the requests of one process, shared by its threads.

    prices: None where they are not known; then tokens are counted only. max_cost: dollars, of all processes that share
    `account` together. Raises UserError for a cap without prices.
    """

    def __init__(self, prices: Prices | None, max_cost: float | None = None, account: Account | None = None):
        if max_cost is not None and (prices is None or not max_cost >= 0):
            raise UserError(
                f"--max_cost {max_cost}: a cap is a number of dollars from 0 on, and needs prices that are known; give "
                "--price_input and --price_output, in dollars per million tokens"
            )
        self.prices, self.max_cost = prices, max_cost
        self.n_requests = self.n_cached = self.n_input = self.n_output = self.n_unsure = 0
        self.unsure = 0.0  # dollars at most of requests that may have been billed and did not say so
        self._before = 0.0
        self._account = account or Account()
        self._changed = threading.Condition()

    @property
    def is_shared(self) -> bool:
        """Whether the account outlives this process."""
        return self._account.is_shared

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
                with self._account.opened() as balance:
                    most = balance.factor * estimate
                    if self.max_cost is None or self._before + balance.taken + most <= self.max_cost:
                        balance.reserve(self._account.holder, most)
                        return Reservation(self, most, estimate)
                    self._account.count_dead(balance)
                    spent, must_wait = self._before + balance.spent, bool(balance.in_flight)
                if not must_wait:
                    raise CapReached(
                        f"--max_cost {self.max_cost:g} reached: ${spent:.4f} spent and the next request may cost "
                        f"${most:.4f}. What is done is kept; give a higher --max_cost to go on from there"
                    )
                self._changed.wait(self._account.look_again_s)

    def count_cached(self) -> None:
        """Count a reply that was at hand."""
        with self._changed:
            self.n_cached += 1

    def count_before(self, dollars: float) -> None:
        """Count what was spent before, and stands in no account, towards the cap."""
        self._before += dollars

    def close(self) -> None:
        """Leave the account to the others."""
        self._account.close()

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
            with self._account.opened() as balance:
                balance.settle(self._account.holder, reservation.dollars, cost)
                if reservation.estimate:
                    balance.factor = max(balance.factor, cost / reservation.estimate)
            self._changed.notify_all()

    def _release(self, reserved: float, unsure: bool) -> None:
        with self._changed:
            if unsure:
                self.unsure, self.n_unsure = self.unsure + reserved, self.n_unsure + 1
            with self._account.opened() as balance:
                balance.settle(self._account.holder, reserved, reserved if unsure else 0.0)
            self._changed.notify_all()


class Reservation:
    """Money set aside for one request; left without a word, the request counts as possibly billed."""

    def __init__(self, budget: Budget, dollars: float, estimate: float):
        self.dollars, self.estimate = dollars, estimate
        self._budget, self._open = budget, True

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(self, *_: object) -> None:
        if self._open:
            self._budget._release(self.dollars, unsure=True)

    def settle(self, n_input: int, n_output: int) -> None:
        """A reply came, and says what it cost."""
        self._open = False
        self._budget._settle(self, n_input, n_output)

    def release(self) -> None:
        """Nothing was billed."""
        self._open = False
        self._budget._release(self.dollars, unsure=False)


def _is_locked(path: Path) -> bool:
    """Whether a living process holds the lock of a file."""
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
