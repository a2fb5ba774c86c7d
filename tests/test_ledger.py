"""One cap for many processes: never passed, not by kills and not by going on, and nobody waits for the dead."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from tests.judge_server import JudgeServer, Response
from tests.production import wait_for
from tests.waiting import PATIENCE_S
from utils.budget import Budget, CapReached, Prices, SharedAccount
from utils.endpoint import EndpointArguments, RequestFailed, connect, user_message
from utils.errors import UserError
from utils.journal import Journal
from utils.rate_limit import RetryPolicy

MODEL = "gpt-4o-2024-08-06"
ONE = Prices(1e6, 1e6)  # a dollar a token
QUICK = RetryPolicy(max_retries=1, first_wait_s=0.01)
SPAWN = multiprocessing.get_context("spawn")


def spending_in(folder: Path, max_cost: float) -> Budget:
    return Budget(ONE, max_cost, SharedAccount(folder))


def ask_until_capped(api_base: str, folder: Path, worker: int, max_cost: float) -> None:
    """A worker of its own process, with questions of its own."""
    arguments = EndpointArguments(api_base=api_base, max_cost=max_cost)
    endpoint = connect(MODEL, arguments, Journal(folder, "replies"), QUICK, SharedAccount(folder))
    for number in range(10_000):
        try:
            endpoint.complete([user_message([f"Question {number} of {worker}, of some length?"])], 16)
        except RequestFailed:
            continue
        except CapReached:
            return
    raise AssertionError("no cap")


def start(target, *arguments) -> multiprocessing.Process:
    process = SPAWN.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def test_processes_that_ask_at_once_never_pass_the_cap(tmp_path: Path):
    max_cost, asked = 0.01, set()

    def behave(number: int, prompt: str) -> Response:
        asked.add(prompt.partition(" of ")[2][:1])
        assert wait_for(lambda: len(asked) >= 3, 60.0), "all three ask at once"
        return Response("Commentary A " * 4, hang_s=0.005) if number % 7 else Response("down", status=500)

    with JudgeServer(behave) as server:
        workers = [start(ask_until_capped, server.api_base, tmp_path, i, max_cost) for i in range(3)]
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        assert 0.95 * max_cost < server.cost <= max_cost
        # A run that goes on has nothing left, and with a higher cap the difference.
        n_before = len(server.requests)
        ask_until_capped(server.api_base, tmp_path, 9, max_cost)
        assert len(server.requests) == n_before
        ask_until_capped(server.api_base, tmp_path, 9, 2 * max_cost)
        assert 1.95 * max_cost < server.cost <= 2 * max_cost
    with SharedAccount(tmp_path).opened() as balance:
        assert balance.spent == pytest.approx(server.cost) and not balance.in_flight
    assert asked == set("0129") and len(list(tmp_path.glob("replies-*.jsonl"))) == 4, "each process has a file"
    n_replies = sum(number % 7 > 0 for number in range(len(server.requests)))
    assert len({row["key"] for row in Journal(tmp_path, "replies").rows()}) == n_replies


def test_kills_at_any_time_never_pass_the_cap(tmp_path: Path):
    max_cost = 0.004
    with JudgeServer(lambda number, prompt: Response("Commentary A " * 4, hang_s=0.01)) as server:
        for worker in range(3):
            n_before = len(server.requests)
            process = start(ask_until_capped, server.api_base, tmp_path, worker, max_cost)
            while len(server.requests) < n_before + 3 + worker and process.is_alive():
                time.sleep(0.001)
            process.kill()
            process.join()
        ask_until_capped(server.api_base, tmp_path, 9, max_cost)
        with SharedAccount(tmp_path).opened() as balance:
            assert server.cost <= balance.spent <= max_cost and not balance.in_flight
        assert server.cost > 0.5 * max_cost


def add_two(folder: Path) -> None:
    (folder / "second is here").touch()
    ledger = SharedAccount(folder)
    with ledger.opened() as balance:
        (folder / "second has it").touch()
        balance.spent += 2


def test_a_balance_is_changed_by_one_process_at_a_time(tmp_path: Path):
    ledger = SharedAccount(tmp_path)
    with ledger.opened() as balance:
        process = start(add_two, tmp_path)
        assert wait_for((tmp_path / "second is here").exists, 60.0)
        assert not wait_for((tmp_path / "second has it").exists, 1.0), "two processes have the balance at once"
        balance.spent += 1
    process.join()
    assert process.exitcode == 0 and (tmp_path / "second has it").exists()
    with ledger.opened() as balance:
        assert balance.spent == 3


def hold(folder: Path, dollars: int) -> None:
    reservation = spending_in(folder, 10.0).reserve(dollars, 0)
    (folder / "held").touch()
    time.sleep(PATIENCE_S)  # until it is killed
    reservation.release()


def test_what_a_killed_process_had_reserved_counts_as_spent_and_nobody_waits_for_it(tmp_path: Path):
    process = start(hold, tmp_path, 6)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    spending = spending_in(tmp_path, 10.0)
    spending.reserve(3, 0).settle(2, 0)
    with spending._account.opened() as balance:
        assert (balance.spent, balance.taken) == (2.0, 8.0)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with pytest.raises(CapReached, match=r"\$8\.0000 spent and the next request may cost \$3\.0000"):
        spending.reserve(3, 0)
    spending.reserve(2, 0).release()
    assert len(list(tmp_path.glob("spending-*.lock"))) == 1
    spending.close()
    assert not list(tmp_path.glob("spending-*.lock"))


def test_a_request_waits_for_those_of_other_processes(tmp_path: Path):
    first, second = spending_in(tmp_path, 10.0), spending_in(tmp_path, 10.0)
    reservation = first.reserve(8, 0)
    process = SPAWN.Process(target=reserve_three, args=(tmp_path,), daemon=True)
    process.start()
    while len(list(tmp_path.glob("spending-*.lock"))) < 3:
        time.sleep(0.01)
    time.sleep(0.2)
    assert not (tmp_path / "reserved").exists()
    reservation.settle(1, 0)
    process.join()
    assert process.exitcode == 0 and (tmp_path / "reserved").exists()
    with second._account.opened() as balance:
        assert balance.taken == 4.0


def reserve_three(folder: Path) -> None:
    spending_in(folder, 10.0).reserve(3, 0).settle(3, 0)
    (folder / "reserved").touch()


def test_replies_of_runs_without_a_cap_count_and_none_counts_twice(tmp_path: Path):
    def ask(server: JudgeServer, first: int, max_cost: float | None) -> Budget:
        account = None if max_cost is None else SharedAccount(tmp_path)
        arguments = EndpointArguments(api_base=server.api_base, max_cost=max_cost)
        endpoint = connect(MODEL, arguments, Journal(tmp_path, "replies"), account=account)
        try:
            for number in range(first, first + 5):
                endpoint.complete([user_message([f"Question {number}?"])], 16)
        finally:
            endpoint.budget.close()
        return endpoint.budget

    with JudgeServer() as server:
        ask(server, 0, None)
        free = server.cost
        for first in (5, 10, 10):
            spent = ask(server, first, 0.1)
        assert spent.n_cached == 5 and spent._before == pytest.approx(free)
        with SharedAccount(tmp_path).opened() as balance:
            assert balance.spent == pytest.approx(server.cost - free)
        with pytest.raises(CapReached, match=f"{server.cost:.4f} spent"):
            ask(server, 20, server.cost)


def test_a_ledger_that_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "spending.json").write_text("{")
    with pytest.raises(UserError, match=r"spending\.json: what was spent cannot be read"):
        SharedAccount(tmp_path)
