"""Makes training data: reads the inputs of a config, takes them through its stages, writes files and a report.

    python -m data.production.run data/production/configs/pretrain.yaml --output_dir outputs/production/pretrain
    python -m data.production.run CONFIG.yaml --engine ray --ray_address auto

Killed at any moment, the same command goes on; it loses the shard in work at most. A changed option runs again what
depends on it, and nothing else. Text stages need a CPU: about 5,000 clips a second and core. The exit status is 3 where
records failed: failed.jsonl says which and why, --retry_failed tries them again; and 4 where none came through.
"""

import contextlib
import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import orjson

from data.production.output.jsonl import Results, write_outputs
from data.production.record import read_records
from data.production.runner.config import RunConfig, read_run_config
from data.production.runner.progress import Progress, RunResult
from data.production.runner.runners import RunnerArguments, ShardRunner, make_runner
from data.production.runner.shard_files import partial_files, put
from data.production.runner.shard_task import ShardReport, ShardTask, after
from data.production.runner.step import PipelineStep, digest_of, input_step, stage_steps
from data.production.runner.store import WorkStore
from utils.errors import UserError, run_command

LEAST_FOR_SHARE = 20  # records, before a share of failures ends a run
FAILED, NOTHING_MADE = 3, 4  # exit statuses
SHOWN_REASONS = 5


@dataclass
class ProductionArguments(RunnerArguments):
    """Which config, and where its output goes."""

    config: str = field(
        default="", metadata={"positional": True, "metavar": "CONFIG.yaml", "help": "inputs, stages and output"}
    )
    output_dir: Path | None = field(
        default=None, metadata={"help": "default: outputs/production/CONFIG", "path": "output_folder"}
    )
    set: list[str] = field(
        default_factory=list, metadata={"help": "STAGE.OPTION=VALUE ...: options in place of the config's"}
    )
    no_report: bool = field(default=False, metadata={"help": "leave report.html out"})
    prune: bool = field(default=False, metadata={"help": "afterwards delete kept work that this config does not use"})


def main(argv: list[str] | None = None) -> int:
    """Run a config; FAILED where records failed, NOTHING_MADE where none came through."""
    from utils.arguments import parse_arguments

    (arguments,) = parse_arguments(ProductionArguments, description=__doc__.splitlines()[0], argv=argv)
    config = read_run_config(arguments.config, arguments.set)
    folder = arguments.output_dir or Path("outputs/production") / Path(arguments.config).stem
    result = run_config(config, folder, arguments)
    if not arguments.no_report:
        from data.production.report.page import write_run_page

        print(write_run_page(result, config))
    if arguments.prune:
        prune(result)
    return say_result(result)


def run_config(config: RunConfig, folder: Path, arguments: RunnerArguments, shown: bool = True) -> RunResult:
    """Do all that is not done, and write the output. Raises UserError where the run must end; what is done is kept."""
    runner = make_runner(arguments)
    with locked(folder):
        for stage in config.stages:
            stage.check()
        steps = [input_step(config.input), *(step for stage in config.stages for step in stage_steps(stage))]
        tasks = _first_tasks(config)
        put(folder / "side" / "run.json", orjson.dumps(_describe(config), option=orjson.OPT_INDENT_2))
        progress = Progress(steps, len(tasks), shown)
        try:
            return _run(config, folder, runner, steps, tasks, progress, arguments.max_failed)
        finally:
            progress.close()
            runner.close()


def _run(
    config: RunConfig,
    folder: Path,
    runner: ShardRunner,
    steps: list[PipelineStep],
    tasks: list[ShardTask],
    progress: Progress,
    max_failed: float,
) -> RunResult:
    dropped: dict[tuple[int, int], Path] = {}
    digests: dict[tuple[int, int], str] = {}
    used: set[tuple[str, str]] = set()
    store, start = WorkStore(folder / "work"), 0
    while start < len(steps):
        if steps[start].gathers:
            gathered = gather(steps[start], tasks, folder / "work")
            used.add((gathered.parent.name, gathered.stem))
            steps[start] = steps[start].with_gathered(gathered.read_bytes())
        stop = next((i for i in range(start + 1, len(steps)) if steps[i].gathers), len(steps))
        segment = {i: steps[i] for i in range(start, stop)}
        reached: dict[int, ShardTask] = {}
        for report in runner.run(segment, tasks, folder):
            progress.add(report)
            _check_failures(report, progress, max_failed)
            marker = report.marker
            used.add(_place_of(Path(report.kept)))
            digests[report.step, report.shard] = f"{marker.digest} {marker.input} {marker.attempt}"
            if marker.n_dropped:
                dropped[report.shard, report.step] = store.dropped_path(steps[report.step], report.shard, marker)
            if report.step == stop - 1:
                reached[report.shard] = after(ShardTask(report.shard, ""), report)
        tasks = [reached[shard] for shard in sorted(reached)]
        start = stop
    kept = [Path(task.kept) for task in tasks]
    specs = [step.spec for step in steps]
    results = Results(kept, [dropped[key] for key in sorted(dropped)], digest_of([specs, sorted(digests.items())]))
    files = write_outputs(folder, results, config.output)
    for partial in partial_files(folder):  # nobody else works here: the folder is locked
        partial.unlink(missing_ok=True)
    by_step = {i: [path for (_, step), path in sorted(dropped.items()) if step == i] for i in range(len(steps))}
    return RunResult(folder, steps, progress, kept, by_step, files, used)


def _first_tasks(config: RunConfig) -> list[ShardTask]:
    """The shards of the input."""
    shards = list(config.input.shards(config.shard_size))
    if not shards:
        raise UserError(f"{config.path}: {config.input.name} finds nothing to read; check its options")
    return [
        ShardTask(i, digest_of(["input", config.input.name, shard]), source=shard) for i, shard in enumerate(shards)
    ]


def gather(step: PipelineStep, tasks: list[ShardTask], work: Path) -> Path:
    """The file of what a stage gathers from all records that reach it, kept by their digests."""
    key = digest_of([step.spec, [task.digest for task in tasks]])
    path = work / f"{step.name}.gathered" / f"{key}.json"
    if not path.is_file():
        stage = step.make_stage()
        put(path, orjson.dumps(stage.gather(read_records(Path(task.kept)) for task in tasks)))
    return path


def prune(result: RunResult) -> None:
    """Delete kept work of other configs, options and inputs."""
    for path in (result.folder / "work").glob("*/*"):
        if _place_of(path) not in result.used:
            path.unlink()
            with contextlib.suppress(OSError):  # until it is empty
                path.parent.rmdir()


def _place_of(path: Path) -> tuple[str, str]:
    """A kept file's folder, and what its name has in common with the others of the same shard and input."""
    return path.parent.name, path.name.partition(".")[0]


def say_result(result: RunResult) -> int:
    """Print what was made; the exit status."""
    for name, n in result.files.items():
        print(f"{n:,} lines in {result.folder / name}")
    if result.n_failed:
        print(
            f"{result.n_failed:,} records failed; {result.folder / 'failed.jsonl'} says why; try again: --retry_failed",
            file=sys.stderr,
        )
    return exit_status(result)


def exit_status(result: RunResult) -> int:
    """The exit status of a run; where nothing came through, say what most of it was rejected for."""
    status, counts = FAILED if result.n_failed else 0, result.progress.counts
    if counts[-1].kept.records:
        return status
    rejected = [
        (tally.records, f"{reason} ({step.name.removesuffix('.judge')})")
        for step, count in zip(result.steps, counts, strict=True)
        for reason, tally in count.reasons.items()
    ]
    most = sorted(rejected, reverse=True)[:SHOWN_REASONS]
    why = ", ".join(f"{n:,} {reason}" for n, reason in most) or "a stage returned no record"
    print(f"nothing came through: {why}; {result.folder / 'rejected.jsonl'} has each with its value", file=sys.stderr)
    return status or NOTHING_MADE


def _describe(config: RunConfig) -> dict:
    """What the run is, for the report."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    options = [{stage.name: asdict(stage.options)} for stage in (config.input, *config.stages)]
    return {
        "config": config.path,
        "options": json.loads(json.dumps(options, default=str)),
        "commit": commit or "unknown",
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Only one run works in a folder. Raises UserError where another does."""
    try:
        (folder / "work").mkdir(parents=True, exist_ok=True)
        lock = (folder / "work" / "lock").open("w")
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error}); give another --output_dir") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"{folder}: another run works there; wait for it, or give another --output_dir") from None
        yield


def _check_failures(report: ShardReport, progress: Progress, max_failed: float) -> None:
    count, name = progress.counts[report.step], progress.steps[report.step].name
    if count.n_in >= LEAST_FOR_SHARE and count.n_failed > max_failed * count.n_in:
        causes = {reason: tally.records for reason, tally in report.marker.reasons.items()}
        raise UserError(
            f"{name}: {count.n_failed} of {count.n_in} records failed, more than --max_failed {max_failed:g} of them; "
            f"causes in the last shard: {causes}. What is done is kept: mend the cause and give --retry_failed"
        )


if __name__ == "__main__":
    run_command(main)
