"""Processes of this machine that take shards one after the other; one that dies is replaced and its shard tried again.

A library's pool either hangs or gives up when a worker dies. Here it is known which records the process was working on:
they are tried one by one, and the one on which a process dies again is kept as failed.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

from data.production.runner.shard_task import ShardReport, ShardTask
from data.production.runner.shard_worker import ShardWorker, WorkerSetup
from utils.errors import UserError

MAX_DEATHS = 3  # of processes in a row that were working on nothing yet: then it is the machine, not a record


@dataclass
class _Member:
    """A process, and the shard that it works on."""

    process: Any
    connection: Connection
    setup: WorkerSetup
    task: ShardTask | None = None
    trying: list[bytes] = field(default_factory=list)


def run_here(setup: WorkerSetup, tasks: Iterable[ShardTask]) -> Iterator[ShardReport]:
    """The same in this process."""
    worker = ShardWorker(setup)
    for task in tasks:
        yield from worker.run(task)
    worker.close()


class Pool:
    """A process for each setup. Ends with its owner, also when that is killed."""

    def __init__(self, setups: list[WorkerSetup]):
        self._setups = setups
        self._members: list[_Member] = []
        self._deaths_at_start = 0

    def run(self, tasks: Iterable[ShardTask]) -> Iterator[ShardReport]:
        """Reports as they come. Raises UserError where a worker did, or where processes die before they work."""
        todo = deque(tasks)
        try:
            for setup in self._setups[: len(todo)]:
                self._members.append(_start(setup))
            for member in self._members:
                _give(member, todo)
            while busy := [member for member in self._members if member.task]:
                for member in _ready(busy):
                    yield from self._hear(member, todo)
        finally:
            self._close()

    def _hear(self, member: _Member, todo: deque[ShardTask]) -> Iterator[ShardReport]:
        try:
            kind, value = member.connection.recv()
        except (EOFError, ConnectionError):
            self._replace(member, todo)
            return
        if kind == "trying":
            member.trying = value
        elif kind == "report":
            self._deaths_at_start = 0
            yield value
        elif kind == "error":
            raise UserError(value)
        else:  # "free"
            member.task, member.trying = None, []
            _give(member, todo)

    def _replace(self, member: _Member, todo: deque[ShardTask]) -> None:
        """Start another process in place of a dead one, and have its shard tried again, with care."""
        member.process.join()
        task, status = member.task, member.process.exitcode
        if not member.trying:
            self._deaths_at_start += 1
            if self._deaths_at_start >= MAX_DEATHS:
                raise UserError(
                    f"{MAX_DEATHS} worker processes died before they worked on a record (exit status {status}); is "
                    "there too little memory? Give a smaller --num_workers; what is done is kept"
                )
        else:
            task = task.after_death(member.trying)
        todo.appendleft(task)
        self._members[self._members.index(member)] = fresh = _start(member.setup)
        _give(fresh, todo)

    def _close(self) -> None:
        for member in self._members:
            member.connection.close()  # a worker that waits ends by itself, with its teardown
        for member in self._members:
            if member.task:
                member.process.terminate()
            member.process.join(10)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()


def _start(setup: WorkerSetup) -> _Member:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_work, args=(theirs, setup), daemon=True)
    process.start()
    theirs.close()
    return _Member(process, ours, setup)


def _give(member: _Member, todo: deque[ShardTask]) -> None:
    if todo:
        member.task = todo.popleft()
        member.connection.send(member.task)


def _ready(busy: list[_Member]) -> list[_Member]:
    ready = wait([member.connection for member in busy])
    return [member for member in busy if member.connection in ready]


def _work(connection: Connection, setup: WorkerSetup) -> None:
    """A worker process: before any library is loaded, it is told its GPU and threads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner decides
    threading.Thread(target=_end_with_owner, daemon=True).start()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(setup.n_threads))
    if setup.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = setup.gpu
    try:
        worker = ShardWorker(setup, lambda digests: connection.send(("trying", digests)))
        while True:
            try:
                task = connection.recv()
            except (EOFError, ConnectionError):
                break
            for report in worker.run(task):
                connection.send(("report", report))
            connection.send(("free", None))
        worker.close()
    except UserError as error:
        _tell(connection, str(error))
    except BrokenPipeError:
        pass
    except Exception:  # the boundary of the process: its owner ends the run with the traceback
        _tell(connection, f"a mistake in a stage, not in the data:\n{traceback.format_exc()}")


def _tell(connection: Connection, error: str) -> None:
    """Say why this process ends; where the owner has closed its end, another one has told it already."""
    with contextlib.suppress(ConnectionError):
        connection.send(("error", error))


def _end_with_owner() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
