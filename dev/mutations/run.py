"""Break one promise after the other in a copy of the repository, and see whether the tests notice.

    python dev/mutations/run.py                        all of them
    python dev/mutations/run.py black_frames no_fork   these
    python dev/mutations/run.py --area training        one area
    python dev/mutations/run.py --list True            names and promises
    python dev/mutations/run.py --tests_from af9bd2f   the same with the test files as they were at a commit

First the tests that belong to the mutations run unbroken, and must pass. Then each mutation is applied alone and its
tests run until the first failure: "killed" with the test that failed, or "SURVIVED". A run over its time, tests that
cannot be collected and a test that is skipped are no evidence either and are reported as such.

Hardware: 2 CPU cores, 4 GB of memory. Time: about 25 minutes for all. Prints a line for each, and with --markdown
FILE a table; ends with status 1 if one survived.
"""

import contextlib
import json
import multiprocessing
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # runs from anywhere without PYTHONPATH
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tqdm import tqdm

from dev.mutations.catalogue import AREAS, MUTATIONS
from dev.mutations.mutation import Mutation
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command

ROOT = Path(__file__).resolve().parents[2]
PROJECT = ("data", "demo", "dev", "evaluation", "models", "scripts", "tests", "train", "utils")
LOADED = [
    "torch",
    "torchvision",
    "transformers",
    "transformers.models.qwen2_vl.modeling_qwen2_vl",
    "pytest",
    "av",
    "cv2",
]
TIME_LIMIT_S = 120
BASELINE_LIMIT_S = 1800
# As scripts/test.sh sets it; and no .pyc, which could be a mutation's whose file has the same size and second.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "offline",
    "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip


@dataclass
class RunArguments:
    """Which mutations run, and how."""

    names: list[str] = field(default_factory=list, metadata={"help": "mutations; none: all", "positional": True})
    area: str | None = field(default=None, metadata={"help": f"those of one area: {', '.join(AREAS)}"})
    quick: bool = field(default=False, metadata={"help": "those that every run of the tests applies"})
    list: bool = field(default=False, metadata={"help": "print names, promises and tests; run nothing"})
    jobs: int = field(default=2, metadata={"help": "mutations at a time, each in a copy of its own"})
    baseline: bool = field(default=True, metadata={"help": "first run the tests unbroken; False trusts them"})
    tests_from: str | None = field(
        default=None,
        metadata={"help": "a commit whose tests/ is used: the whole files of the named tests"},
    )
    markdown: str | None = field(default=None, metadata={"help": "also write the results as a table to this file"})


@dataclass(frozen=True)
class Verdict:
    """What became of a mutation: word is killed, SURVIVED, timed out, no evidence; by: the test that failed."""

    mutation: Mutation
    word: str
    by: str
    seconds: float

    def line(self) -> str:
        return f"{self.word:11} {self.mutation.name:45} {self.seconds:5.0f} s  {self.by}"

    def record(self) -> dict:
        found = {"name": self.mutation.name, "verdict": self.word, "by": self.by, "seconds": round(self.seconds, 1)}
        return {**found, "promise": self.mutation.promise}


def run_tests(tree: Path, tests: list[str], limit_s: float, *options: str) -> tuple[int | None, str]:
    """pytest's exit status in `tree` and what it printed; None for the status where it ran past the limit.

    It runs in a fork of a process that has loaded the libraries and nothing of the project, which saves their seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", errors="replace") as printed:
        words = ["-q", "-rfE", "-p", "no:cacheprovider", *options, *tests]
        process = context.Process(target=pytest_main, args=(str(tree), words, printed.name))
        process.start()
        process.join(limit_s)
        status = process.exitcode
        _kill_group(process.pid)
        process.join()
        return status, printed.read()


def pytest_main(tree: str, words: list[str], output: str) -> None:
    """Run pytest in this process, in a group of its own, as `python -m pytest` does in `tree`."""
    os.setsid()
    descriptor = os.open(output, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ.update(ENVIRONMENT)
    os.environ.pop("PYTHONPATH", None)
    os.chdir(tree)
    for name in [name for name in sys.modules if name.split(".")[0] in PROJECT]:
        del sys.modules[name]  # this command's own, of the code that is not mutated
    sys.path[:] = [
        tree,
        *(path for path in sys.path if Path(path or ".").resolve() not in (ROOT, ROOT / "dev/mutations")),
    ]
    import pytest

    sys.exit(int(pytest.main(words)))


def _kill_group(leader: int) -> None:
    """What the tests started, too: a broken lock may leave a process that waits for ever."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def judge(mutation: Mutation, status: int | None, printed: str, seconds: float) -> Verdict:
    """Read pytest's outcome: only a test that ran and failed is a kill."""
    failed = re.search(r"^(?:FAILED|ERROR) (\S+::\S+)", printed, re.MULTILINE)
    if status is None:
        return Verdict(mutation, "timed out", f"no verdict within {TIME_LIMIT_S} s", seconds)
    if status == 1 and failed:
        return Verdict(mutation, "killed", failed[1], seconds)
    if status == 0 and re.search(r"\d+ passed", printed):
        return Verdict(mutation, "SURVIVED", (re.findall(r"\d+ passed[^\n]*", printed) or [""])[-1], seconds)
    last = printed.strip().splitlines()[-1] if printed.strip() else "pytest printed nothing"
    return Verdict(mutation, "no evidence", f"pytest ended with {status}: {last}", seconds)


class Copies:
    """Copies of the repository, one for each mutation that runs at a time."""

    def __init__(self, folder: Path, n: int, tests_from: str | None):
        self.free: queue.Queue[Path] = queue.Queue()
        self.old_tests = tests_from is not None
        for number in range(n):
            tree = folder / f"copy {number}"
            copy_tree(tree)
            if tests_from:
                use_tests_of(tree, tests_from)
            self.free.put(tree)

    def tests_of(self, tree: Path, mutation: Mutation) -> list[str]:
        """The mutation's tests; with tests of another commit their whole files, where it has them."""
        if not self.old_tests:
            return list(mutation.tests)
        files = dict.fromkeys(test.split("::")[0] for test in mutation.tests)
        return [file for file in files if (tree / file).is_file()]

    def run(self, mutation: Mutation) -> Verdict:
        """Apply, test, and put the file back."""
        tree = self.free.get()
        started = time.monotonic()
        try:
            if not (tests := self.tests_of(tree, mutation)):
                return Verdict(mutation, "SURVIVED", "no test file of that name existed", 0.0)
            source = (tree / mutation.file).read_bytes()
            mutation.apply(tree)
            try:
                status, printed = run_tests(tree, tests, TIME_LIMIT_S, "-x", "-p", "no:xdist")
            finally:
                (tree / mutation.file).write_bytes(source)
            return judge(mutation, status, printed, time.monotonic() - started)
        finally:
            self.free.put(tree)


def copy_tree(target: Path) -> None:
    """Copy what git tracks and what it does not ignore; the environment is a link."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    if (ROOT / ".venv").exists():
        (target / ".venv").symlink_to((ROOT / ".venv").resolve())


def use_tests_of(tree: Path, commit: str) -> None:
    """Replace tests/ by what it was at a commit."""
    shutil.rmtree(tree / "tests")
    archive = subprocess.run(["git", "archive", commit, "tests"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        raise UserError(f"--tests_from {commit}: {archive.stderr.decode().strip()}; name a commit of this repository")
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)


def chosen(arguments: RunArguments) -> list[Mutation]:
    """The mutations asked for. Raises UserError for a name that is none."""
    if arguments.area and arguments.area not in AREAS:
        raise UserError(f"--area {arguments.area}: no such area; there are {', '.join(AREAS)}")
    known = {mutation.name: mutation for mutation in MUTATIONS}
    if unknown := [name for name in arguments.names if name not in known]:
        raise UserError(f"no mutation is called {', '.join(unknown)}; --list True prints their names")
    found = [known[name] for name in arguments.names] or list(AREAS.get(arguments.area or "", MUTATIONS))
    return [mutation for mutation in found if mutation.quick or not arguments.quick]


def check_unbroken(copies: Copies, mutations: list[Mutation]) -> None:
    """The tests of all these mutations pass on the code as it is. Raises UserError otherwise."""
    tree = copies.free.get()
    tests = list(dict.fromkeys(test for mutation in mutations for test in copies.tests_of(tree, mutation)))
    print(f"{len(tests)} tests and files of {len(mutations)} mutations run unbroken first", file=sys.stderr, flush=True)
    status, printed = run_tests(tree, tests, BASELINE_LIMIT_S, "--numprocesses", "2", "--dist", "worksteal")
    copies.free.put(tree)
    if status != 0:
        raise UserError(
            f"the tests do not pass on the code as it is (status {status}), so a failure would show nothing; "
            f"mend them first:\n{printed[-3000:]}"
        )


def run_all(mutations: list[Mutation], copies: Copies, jobs: int) -> list[Verdict]:
    """Verdicts in the order given; each is printed when it is known."""
    found: dict[str, Verdict] = {}
    as_lines = not sys.stdout.isatty()
    with ThreadPoolExecutor(jobs) as pool, tqdm(total=len(mutations), unit=" mutations", disable=as_lines) as bar:
        for done in as_completed([pool.submit(copies.run, mutation) for mutation in mutations]):
            verdict = done.result()
            found[verdict.mutation.name] = verdict
            bar.write(json.dumps(verdict.record(), ensure_ascii=False) if as_lines else verdict.line())
            sys.stdout.flush()
            bar.update()
    return [found[mutation.name] for mutation in mutations]


def write_table(verdicts: list[Verdict], path: Path) -> None:
    """One row a mutation, as Markdown."""
    rows = [
        f"| {verdict.mutation.name} | {verdict.mutation.promise} | {verdict.word} | {verdict.by} |"
        for verdict in verdicts
    ]
    head = ["| mutation | promise that it breaks | verdict | by |", "|---|---|---|---|"]
    path.write_text("\n".join([*head, *rows]) + "\n", encoding="utf-8")


def main() -> int:
    (arguments,) = parse_arguments(RunArguments, description=__doc__)
    mutations = chosen(arguments)
    if arguments.list:
        for mutation in mutations:
            print(
                f"{mutation.name}{' (quick)' if mutation.quick else ''}: {mutation.promise}\n    {mutation.file}; ",
                end="",
            )
            print(" ".join(mutation.tests))
        return 0
    with tempfile.TemporaryDirectory(prefix="mutations_") as folder:
        copies = Copies(Path(folder), arguments.jobs, arguments.tests_from)
        if arguments.baseline:
            check_unbroken(copies, mutations)
        verdicts = run_all(mutations, copies, arguments.jobs)
    if arguments.markdown:
        write_table(verdicts, Path(arguments.markdown))
    n_killed = sum(verdict.word == "killed" for verdict in verdicts)
    print(f"{n_killed} of {len(verdicts)} killed", file=sys.stderr)
    return int(n_killed < len(verdicts))


if __name__ == "__main__":
    run_command(main)
