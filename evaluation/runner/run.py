"""The runner: items of one video file go to the model together; answers go to the store; any number of processes share.

A process locks a video, asks what is not answered yet, and goes on to the next that nobody holds. When none is left it
waits for those that others hold and takes over what a dead one has left. So processes may be started, killed and
started again in any number, under torchrun, by hand or on several machines that share the output folder.
"""

import logging
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from evaluation.predictors.predictor import Predictor
from evaluation.runner.file_locks import FileLocks
from evaluation.runner.store import AnswerStore
from evaluation.scoring.results import BenchmarkRun
from evaluation.tasks.item import Answer, Item
from evaluation.tasks.task import Task
from utils.arguments import helped
from utils.errors import UserError

log = logging.getLogger(__name__)

FAILED = 3  # exit status where an item has no answer
MAX_ATTEMPTS = 2  # a failed item is tried once more


@dataclass
class EvaluationArguments:
    """What part of a benchmark is asked, and where its answers go."""

    output_dir: str | None = helped(None, "answers and results; default: beside the script", path="output_folder")
    limit: int | None = helped(None, "only the first N lines of the benchmark", ge=1)
    num_workers: int = helped(0, "processes; 0: one for each GPU; torchrun's number where it starts them")
    resume: bool = helped(True, "--resume False forgets the answers of earlier runs")
    template_dir: str | None = helped(
        None, "folder whose templates replace those of evaluation/templates", path="folder"
    )


def evaluate_task(task: Task, predictor: Predictor, folder: Path, resume: bool = True) -> list[BenchmarkRun]:
    """Ask every item that has no answer yet, and return the runs, one for each setting, all written to `folder`.

    Every process returns the same runs; the first process writes them.
    """
    store = ask_items(task, predictor, folder, resume)
    runs = [run_of(task, predictor, store, setting) for setting in task.settings]
    if is_first_process():
        for run in runs:
            run.write(folder)
            if task.export:
                task.export(run, folder)
    return runs


def ask_items(task: Task, predictor: Predictor, folder: Path, resume: bool = True) -> AnswerStore:
    """Ask every item that has no answer yet; the store then has a row for each."""
    check_names(task)
    decisive = {"benchmark": task.benchmark, "protocol": task.protocol, "templates": task.templates}
    settings = {**decisive, "model": predictor.name, **predictor.settings}
    store = AnswerStore(folder / "answers", settings, since_s=0.0 if resume else time.time())
    locks = FileLocks(folder / "answers" / "claims")
    Runner(task.items, predictor, store, locks).run()
    locks.close()
    store.close()
    return store


def run_of(task: Task, predictor: Predictor, store: AnswerStore, setting: str) -> BenchmarkRun:
    """Build the run of one setting from the store's rows; what the model does its own way is its own part."""
    items = [item for item in task.items if item.setting == setting]
    results = [task.result(item, row) for item, row in zip(items, store.rows(items), strict=True)]
    settings = store.settings | ({"skipped_lines": len(task.skipped)} if task.skipped else {})
    if task.parts is None:
        return BenchmarkRun(task.benchmark, task.protocol, predictor.name, setting, results, settings)
    parts = task.parts.changed(predictor.own_parts)
    name = parts.name(task.protocol)
    return BenchmarkRun(task.benchmark, name, predictor.name, setting, results, settings, asdict(parts))


class Runner:
    """Asks items until each is answered or has failed MAX_ATTEMPTS times in this run."""

    def __init__(self, items: Sequence[Item], predictor: Predictor, store: AnswerStore, locks: FileLocks):
        self.groups = group_by_file(items)
        self.predictor, self.store, self.locks = predictor, store, locks
        self.before = {item.name: store.n_attempts(item) for item in items}  # this run began
        self.causes: Counter[str] = Counter()
        self.bar = tqdm(total=len(items), unit="item", desc=predictor.name, disable=not is_first_process())

    def run(self) -> None:
        """Ask everything once; then again what failed; then wait for what others hold."""
        with self.bar:
            for most, wait in ((1, False), (MAX_ATTEMPTS, False), (MAX_ATTEMPTS, True)):
                for items in self.groups.values():
                    lock = lock_name(items[0])
                    if self._open(items, most) and self.locks.acquire(lock, wait):
                        try:
                            self.store.refresh()  # another process may have asked by now
                            while asked := self._open(items, most):
                                self._ask(asked)
                        finally:
                            self.locks.release(lock)
                        self._show()

    def _open(self, items: Sequence[Item], most: int) -> list[Item]:
        """Items without an answer that were asked fewer than `most` times in this run."""
        tries = {item.name: self.store.n_attempts(item) - self.before[item.name] for item in items}
        return [item for item in items if not self.store.is_done(item) and tries[item.name] < most]

    def _ask(self, items: Sequence[Item]) -> None:
        """Ask items of one video; each gets a row, its answer or its error."""
        waiting = {item.name: item for item in items}
        for item in items:
            if item.clip is None:
                self._fail(waiting.pop(item.name), item.problem)
        problem: Exception = RuntimeError("the model gave no answer")
        try:
            for item, said in self.predictor.answer(list(waiting.values())):
                del waiting[item.name]
                if isinstance(said, Answer):
                    self.store.add(item, said)
                else:
                    self._fail(item, _describe(said))
        except (MemoryError, RuntimeError, OSError, ValueError) as error:
            # What one video can do to a model, running out of memory among it, must not end a run of days.
            log.debug("%s", traceback.format_exc())
            problem = error
        for item in waiting.values():
            self._fail(item, _describe(problem))

    def _fail(self, item: Item, error: str) -> None:
        self.causes[error] += 1
        if self.causes[error] == 1:
            log.warning("%s: %s", item.name, error)
        self.store.add_error(item, error)

    def _show(self) -> None:
        n_done = sum(len(items) - len(self._open(items, MAX_ATTEMPTS)) for items in self.groups.values())
        self.bar.set_postfix(failed=self.causes.total(), refresh=False)
        self.bar.update(n_done - self.bar.n)


def _describe(error: Exception) -> str:
    """Describe an exception in one line."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def check_names(task: Task) -> None:
    """Raise UserError where two items have one name: one would get the other's answer."""
    twice = [name for name, n in Counter(item.name for item in task.items).items() if n > 1]
    if twice:
        raise UserError(
            f"{task.benchmark}: {len(twice)} of its items have a name that another has too, {twice[0]!r} among them; "
            "each question needs an id of its own: leave out the repeated lines"
        )


def group_by_file(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Items by their video's file, in the order of its first item; those without one by their video's id."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.clip.video if item.clip else item.video_id, []).append(item)
    return groups


def lock_name(item: Item) -> str:
    """Name of the lock on an item's video, on whichever machine and in whichever folder the file lies."""
    return f"{item.video_id} {Path(item.clip.video).name}" if item.clip else item.video_id


def is_first_process() -> bool:
    """Whether this process speaks for a run of several."""
    return int(os.environ.get("RANK", "0")) == 0


def exit_status(runs: Sequence[BenchmarkRun]) -> int:
    """Exit status: 0, or FAILED where an item has no answer."""
    n_failed = sum(result.failed for run in runs for result in run.results)
    if n_failed and is_first_process():
        print(
            f"{n_failed} items have no answer. Their errors are in the result files; the same command asks them again.",
            file=sys.stderr,
        )
    return FAILED if n_failed else 0
