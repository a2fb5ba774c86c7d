"""What requests have cost and may still cost: in memory for one process, in a file for all processes of a run."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import orjson

from utils.errors import UserError
from utils.files import write_whole


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


class Ledger:
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


class SharedLedger(Ledger):
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
        """See Ledger."""
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
        """See Ledger; the balance must be open."""
        for path in self._folder.glob(f"{self._name}-*.lock"):
            if path.stem != self.holder and not _is_locked(path):
                path.unlink(missing_ok=True)
        for holder, (_, dollars) in list(balance.in_flight.items()):
            if not (self._folder / f"{holder}.lock").exists():
                balance.spent += dollars
                del balance.in_flight[holder]

    def close(self) -> None:
        """See Ledger; requests that are still in flight count as spent."""
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
