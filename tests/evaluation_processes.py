"""Processes that answer one benchmark together, for tests: each says what it was asked, and they meet on purpose."""

import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

from evaluation.runner.file_locks import FileLocks
from evaluation.runner.run import Runner
from evaluation.runner.store import AnswerStore
from evaluation.tasks.item import Answer, Choice, ClipPlan, Item

N_VIDEOS, N_QUESTIONS = 3, 3
LIMIT_S = 120.0
SETTINGS = {"benchmark": "test"}


def shared_items() -> list[Item]:
    """Three questions on each of three videos."""
    return [
        Item(f"v{v}q{q}", f"v{v}", Choice(f"{q}?", "Answer:", ("A", "B")), "A", ClipPlan(f"v{v}.mp4"))
        for v in range(N_VIDEOS)
        for q in range(N_QUESTIONS)
    ]


class WaitingLocks(FileLocks):
    """Tells the others when its process waits for a video that one of them holds."""

    def __init__(self, path: Path, waits: Event):
        super().__init__(path)
        self.waits = waits

    def acquire(self, name: str, wait: bool = False) -> bool:
        if wait:
            self.waits.set()
        return super().acquire(name, wait)


class MeetingPredictor:
    """Answers its first video when the other process has one as well, the first of all when the other waits for it."""

    name, settings = "m", {}

    def __init__(self, held: Sequence[int], rank: int, meeting: Barrier, other_waits: Event):
        self.held, self.rank, self.meeting, self.other_waits = held, rank, meeting, other_waits
        self.asked: list[str] = []

    def answer(self, items: Sequence[Item]) -> Iterator[tuple[Item, Answer]]:
        is_first, video = not self.asked, int(items[0].video_id[1:])
        self.asked += [item.id for item in items]
        if is_first:
            self.held[self.rank] = video
            self.meeting.wait(LIMIT_S)
            if video == 0 and self.held[1 - self.rank] != 0:
                self.other_waits.wait(LIMIT_S)
        yield from ((item, Answer(f"{item.id} by {self.rank}")) for item in items)


def work(folder: Path, rank: int, held, meeting: Barrier, waits: Sequence[Event], told) -> None:
    """Ask everything, and tell which items this process was asked, and what its store holds at its end."""
    predictor = MeetingPredictor(held, rank, meeting, waits[1 - rank])
    store = AnswerStore(folder, SETTINGS)
    try:
        Runner(shared_items(), predictor, store, WaitingLocks(folder / "claims", waits[rank])).run()
    finally:
        waits[rank].set()
    told.put((rank, predictor.asked, [row["response"] for row in store.rows(shared_items())]))


def run_two(folder: Path) -> dict[int, tuple[list[str], list[str]]]:
    """What each of two processes was asked, and the answers that it ended with."""
    context = multiprocessing.get_context("spawn")
    held, meeting, told = context.Array("i", [-1, -1]), context.Barrier(2), context.Queue()
    waits = [context.Event(), context.Event()]
    processes = [
        context.Process(target=work, args=(folder, rank, held, meeting, waits, told), daemon=True) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    found = {rank: (asked, responses) for rank, asked, responses in (told.get(timeout=LIMIT_S) for _ in processes)}
    for process in processes:
        process.join(LIMIT_S)
    assert [process.exitcode for process in processes] == [0, 0]
    return found
