"""Makes training data: reads the inputs of a config, takes them through its stages, writes files and a report.

    python -m data.production.run data/production/configs/pretrain.yaml --output_dir outputs/production/pretrain
    python -m data.production.run CONFIG.yaml --engine ray --ray_address auto

Killed at any moment, the same command goes on; it loses the shard in work at most. A changed option runs again what
depends on it, and nothing else. Text stages need a CPU: about 5,000 clips a second and core. The exit status is 3 where
records failed: failed.jsonl says which and why, --retry_failed tries them again.
"""

import fcntl
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import orjson

from data.production.output.jsonl import Results, write_outputs
from data.production.record import read_records
from data.production.runner.config import RunConfig, read_config
from data.production.runner.engines import Engine, make_engine
from data.production.runner.job import Job, Report, after
from data.production.runner.link import Link, digest_of, input_link, stage_links
from data.production.runner.progress import Progress
from data.production.runner.result import RunResult
from data.production.runner.shard_files import partial_files, put
from data.production.runner.store import Store
from utils.errors import UserError, run_command

LEAST_FOR_SHARE = 20  # records, before a share of failures ends a run


@dataclass
class EngineArguments:
    """Where and how carefully."""

    engine: str = field(default="local", metadata={"help": "local: this machine's processes; ray: a Ray cluster"})
    ray_address: str = field(
        default="auto", metadata={"help": "cluster: auto, HOST:PORT or ray://HOST:PORT; local starts one here"}
    )
    ray_cpus: int = field(default=0, metadata={"help": "cores that the cluster can grow to; default: what it has"})
    ray_gpus: int = field(default=0, metadata={"help": "GPUs that the cluster can grow to; default: what it has"})
    num_workers: int = field(default=0, metadata={"help": "cores to use; 0: all"})
    retry_failed: bool = field(default=False, metadata={"help": "try records again that failed in an earlier run"})
    max_failed: float = field(default=0.5, metadata={"help": "end the run when this share of a stage's records failed"})


@dataclass
class RunArguments(EngineArguments):
    """Which config, and where its output goes."""

    config: str = field(
        default="", metadata={"positional": True, "metavar": "CONFIG.yaml", "help": "inputs, stages and output"}
    )
    output_dir: Path | None = field(default=None, metadata={"help": "default: outputs/production/CONFIG"})
    set: list[str] = field(
        default_factory=list, metadata={"help": "STAGE.OPTION=VALUE ...: options in place of the config's"}
    )
    no_report: bool = field(default=False, metadata={"help": "leave report.html out"})
    prune: bool = field(default=False, metadata={"help": "afterwards delete kept work that this config does not use"})


def main(argv: list[str] | None = None) -> int:
    """Run a config; 3 where records failed."""
    from utils.arguments import parse_arguments

    (arguments,) = parse_arguments(RunArguments, description=__doc__.splitlines()[0], argv=argv)
    config = read_config(arguments.config, arguments.set)
    folder = arguments.output_dir or Path("outputs/production") / Path(arguments.config).stem
    result = run_config(config, folder, arguments)
    if not arguments.no_report:
        from data.production.report.page import write_report

        print(write_report(result, config))
    if arguments.prune:
        prune(result)
    return say_result(result)


def run_config(config: RunConfig, folder: Path, arguments: EngineArguments, shown: bool = True) -> RunResult:
    """Do all that is not done, and write the output. Raises UserError where the run must end; what is done is kept."""
    most = {"CPU": arguments.ray_cpus, "GPU": arguments.ray_gpus}
    engine = make_engine(arguments.engine, arguments.ray_address, arguments.num_workers, arguments.retry_failed, most)
    with locked(folder):
        for stage in config.stages:
            stage.check()
        links = [input_link(config.input), *(link for stage in config.stages for link in stage_links(stage))]
        jobs = first_jobs(config)
        put(folder / "side" / "run.json", orjson.dumps(describe(config), option=orjson.OPT_INDENT_2))
        progress = Progress(links, len(jobs), shown)
        try:
            return _run(config, folder, engine, links, jobs, progress, arguments.max_failed)
        finally:
            progress.close()
            engine.close()


def _run(
    config: RunConfig,
    folder: Path,
    engine: Engine,
    links: list[Link],
    jobs: list[Job],
    progress: Progress,
    max_failed: float,
) -> RunResult:
    dropped: dict[tuple[int, int], Path] = {}
    digests: dict[tuple[int, int], str] = {}
    store, start = Store(folder / "work"), 0
    while start < len(links):
        if links[start].gathers:
            links[start] = links[start].with_gathered(gather(links[start], jobs, folder / "work"))
        stop = next((i for i in range(start + 1, len(links)) if links[i].gathers), len(links))
        segment = {i: links[i] for i in range(start, stop)}
        reached: dict[int, Job] = {}
        for report in engine.run(segment, jobs, folder):
            progress.add(report)
            _check_failures(report, progress, max_failed)
            done = report.done
            digests[report.link, report.shard] = f"{done.digest} {done.input} {done.attempt}"
            if done.n_dropped:
                dropped[report.shard, report.link] = store.dropped_path(links[report.link], report.shard, done)
            if report.link == stop - 1:
                reached[report.shard] = after(Job(report.shard, ""), report)
        jobs = [reached[shard] for shard in sorted(reached)]
        start = stop
    kept = [Path(job.kept) for job in jobs]
    specs = [link.spec for link in links]
    results = Results(kept, [dropped[key] for key in sorted(dropped)], digest_of([specs, sorted(digests.items())]))
    files = write_outputs(folder, results, config.output)
    for partial in partial_files(folder):  # nobody else works here: the folder is locked
        partial.unlink(missing_ok=True)
    by_link = {i: [path for (_, link), path in sorted(dropped.items()) if link == i] for i in range(len(links))}
    return RunResult(folder, links, progress, kept, by_link, files)


def first_jobs(config: RunConfig) -> list[Job]:
    """The shards of the input."""
    shards = list(config.input.shards(config.shard_size))
    if not shards:
        raise UserError(f"{config.path}: {config.input.name} finds nothing to read; check its options")
    return [Job(i, digest_of(["input", config.input.name, shard]), source=shard) for i, shard in enumerate(shards)]


def gather(link: Link, jobs: list[Job], work: Path) -> bytes:
    """What a stage gathers from all records that reach it, kept on disk by their digests."""
    key = digest_of([link.spec, [job.digest for job in jobs]])
    path = work / f"{link.name}.gathered" / f"{key}.json"
    if not path.is_file():
        stage = link.make_stage()
        put(path, orjson.dumps(stage.gather(read_records(Path(job.kept)) for job in jobs)))
    return path.read_bytes()


def prune(result: RunResult) -> None:
    """Delete kept work of other configs and options."""
    import shutil

    store = Store(result.folder / "work")
    used = store.used_folders(result.links) | {f"{link.name}.gathered" for link in result.links}
    for folder in store.folder.iterdir():
        if folder.is_dir() and folder.name not in used:
            shutil.rmtree(folder)


def say_result(result: RunResult) -> int:
    """Print what was made; the exit status."""
    for name, n in result.files.items():
        print(f"{n:,} lines in {result.folder / name}")
    if result.n_failed:
        print(
            f"{result.n_failed:,} records failed; {result.folder / 'failed.jsonl'} says why; try again: --retry_failed",
            file=sys.stderr,
        )
    return 3 if result.n_failed else 0


def describe(config: RunConfig) -> dict:
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


@contextmanager
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


def _check_failures(report: Report, progress: Progress, max_failed: float) -> None:
    count, name = progress.counts[report.link], progress.links[report.link].name
    if count.n_in >= LEAST_FOR_SHARE and count.n_failed > max_failed * count.n_in:
        causes = {reason: tally.records for reason, tally in report.done.reasons.items()}
        raise UserError(
            f"{name}: {count.n_failed} of {count.n_in} records failed, more than --max_failed {max_failed:g} of them; "
            f"causes in the last shard: {causes}. What is done is kept: mend the cause and give --retry_failed"
        )


if __name__ == "__main__":
    run_command(main)
