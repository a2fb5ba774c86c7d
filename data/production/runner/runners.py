"""Where the work of a run is done: this machine's processes, or a Ray cluster. Both run shard_worker.py's ShardWorker
on the same shards, which leaves everything in files; so their output is the same, byte for byte.

    runner = make_runner(RunnerArguments("local", num_workers=8))
    for report in runner.run(steps, tasks, folder):  # a ShardReport for every step of every shard, as they come
        ...

LocalRunner: one group of steps after the other (steps that need the same kind of worker), each on its own processes:
one for each `gpus` share of the GPUs, else as many as `cpus` of each allow. A process that dies is replaced, and the
record that it died on fails.
RayRunner: Ray Data, one row a shard; each group is an actor pool that Ray scales between 1 and what the cluster has or
can grow to, and the shards stream through as many groups at once as have room in it. The output folder must be a path
that all machines see.
"""

import os
import pickle
import shutil
import traceback
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data.production.runner.pool import Pool, run_here
from data.production.runner.shard_files import put
from data.production.runner.shard_task import ShardReport, ShardTask, after
from data.production.runner.shard_worker import ShardWorker, WorkerSetup
from data.production.runner.step import PipelineStep, groups_of
from data.production.runner.store import WorkStore
from utils.errors import UserError

MACHINE = "CPU of a machine"
REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass
class RunnerArguments:
    """Where and how carefully."""

    engine: str = field(default="local", metadata={"help": "local: this machine's processes; ray: a Ray cluster"})
    ray_address: str = field(
        default="auto", metadata={"help": "cluster: auto, HOST:PORT or ray://HOST:PORT; local starts one here"}
    )
    ray_cpus: int = field(default=0, metadata={"help": "cores that the cluster can grow to; default: what it has"})
    ray_gpus: int = field(default=0, metadata={"help": "GPUs that the cluster can grow to; default: what it has"})
    num_workers: int = field(default=0, metadata={"help": "cores to use; 0: all"})
    retry_failed: bool = field(default=False, metadata={"help": "try records again that failed in an earlier run"})
    max_failed: float = field(
        default=0.5, metadata={"help": "end the run when this share of a stage's records failed", "le": 1}
    )


class ShardRunner(ABC):
    """Does the work of a run."""

    def __init__(self, arguments: RunnerArguments):
        self.arguments = arguments

    def run(self, steps: dict[int, PipelineStep], tasks: Sequence[ShardTask], folder: Path) -> Iterator[ShardReport]:
        """Take every shard through the steps (by their number in the run); reports as they come, kept ones first."""
        store = WorkStore(folder / "work")
        # Where nothing is left to do, a cluster need not be there.
        is_done = all(self._kept(steps, task, store)[2] for task in tasks)
        for wave in [steps] if is_done else self._waves(steps):
            done, todo = [], []
            for task in tasks:
                reports, reached, complete = self._kept(wave, task, store)
                if complete:
                    yield from reports
                (done if complete else todo).append(reached if complete else task)
            for report in self._work(wave, todo, folder) if todo else ():
                yield report
                if report.step == max(wave):
                    done.append(after(ShardTask(report.shard, ""), report))
            tasks = sorted(done, key=lambda task: task.shard)

    def close(self) -> None:  # noqa: B027 - most engines hold nothing
        """Free what the runner holds."""

    @abstractmethod
    def _waves(self, steps: dict[int, PipelineStep]) -> list[dict[int, PipelineStep]]:
        """The steps in groups, each of which takes all shards before the next one begins."""

    @abstractmethod
    def _work(self, steps: dict[int, PipelineStep], tasks: list[ShardTask], folder: Path) -> Iterator[ShardReport]:
        """Take shards through one group."""

    def _kept(
        self, steps: dict[int, PipelineStep], task: ShardTask, store: WorkStore
    ) -> tuple[list[ShardReport], ShardTask, bool]:
        """What of a shard is done already, from the first step on; where it stands then; whether it is complete."""
        reports = []
        for number, step in steps.items():
            done = store.find(step, task.shard, task.digest)
            if done is None or (self.arguments.retry_failed and done.n_failed):
                return reports, task, False
            reports.append(ShardReport(number, task.shard, done, str(store.kept_path(step, task.shard, done))))
            task = after(task, reports[-1])
        return reports, task, True


class LocalRunner(ShardRunner):
    """Processes of this machine."""

    def _waves(self, steps: dict[int, PipelineStep]) -> list[dict[int, PipelineStep]]:
        return groups_of(steps)

    def _work(self, steps: dict[int, PipelineStep], tasks: list[ShardTask], folder: Path) -> Iterator[ShardReport]:
        setups = self._setups(steps, folder)
        first = next(iter(steps.values()))
        if len(setups) == 1 and first.is_light:
            return run_here(setups[0], tasks)
        return Pool(setups).run(tasks)

    def _setups(self, steps: dict[int, PipelineStep], folder: Path) -> list[WorkerSetup]:
        """One for each worker."""
        cores = self.arguments.num_workers or os.cpu_count() or 1
        first = next(iter(steps.values()))
        gpus = visible_gpus() if first.gpus else []
        places: list[str | None] = [gpu for gpu in gpus for _ in range(max(1, int(1 / first.gpus)))]
        if not places:
            places = [None] * max(1, cores // (first.cpus or cores))
        n_threads = max(1, (os.cpu_count() or 1) // len(places))
        return [WorkerSetup(steps, folder, gpu, n_threads, self.arguments.retry_failed) for gpu in places]


class RayRunner(ShardRunner):
    """A Ray cluster that runs already, or one that is started here."""

    _is_up = False

    def close(self) -> None:
        """Leave the cluster; one started here ends."""
        if self._is_up:
            import ray

            ray.shutdown()

    def _connect(self) -> None:
        import ray

        if ray.is_initialized():
            return
        address = self.arguments.ray_address
        # Without an address, Ray would look for a cluster that is said to run here, and may long be gone.
        place = {"address": address} | ({"num_cpus": self.arguments.num_workers or None} if address == "local" else {})
        # Workers on other machines find the code where this one has it: the folder is shared.
        environment = {"env_vars": {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}}
        try:
            ray.init(**place, include_dashboard=False, log_to_driver=False, runtime_env=environment)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"--ray_address {address}: no Ray cluster there ({error}); start one with `ray start --head`, or "
                "give --ray_address local"
            ) from error
        self._is_up = True

    def _total(self) -> dict[str, float]:
        """CPU and GPU that the cluster has, or can grow to, and the CPU of its largest machine."""
        import ray

        now, most = ray.cluster_resources(), {"CPU": self.arguments.ray_cpus, "GPU": self.arguments.ray_gpus}
        total = {name: max(now.get(name, 0.0), most[name]) for name in most}
        cpus = max(1.0, min(total["CPU"], self.arguments.num_workers or total["CPU"]))
        largest = max(node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"])
        return {**total, "CPU": cpus, MACHINE: max(1.0, min(largest, cpus))}

    def _waves(self, steps: dict[int, PipelineStep]) -> list[dict[int, PipelineStep]]:
        self._connect()
        return waves_of(steps, self._total())

    def _work(self, steps: dict[int, PipelineStep], tasks: list[ShardTask], folder: Path) -> Iterator[ShardReport]:
        import ray

        total = self._total()
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        items = [{"state": pickle.dumps(State(task))} for task in tasks]
        rows = ray.data.from_items(items, override_num_blocks=len(items))
        run = uuid.uuid4().hex
        for group in groups_of(steps):
            needs, most = needs_of(next(iter(group.values())), total)
            setup = WorkerSetup(group, folder.resolve(), retry_failed=self.arguments.retry_failed)
            rows = rows.map(
                _RayWorker,
                fn_constructor_args=(setup, run),
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
                num_cpus=needs["CPU"],
                num_gpus=needs["GPU"] or None,
            )
        for row in rows.iter_rows():
            state = pickle.loads(row["state"])
            if state.error:
                raise UserError(state.error)
            yield from state.reports
        shutil.rmtree(folder / "side" / "trying", ignore_errors=True)


def needs_of(step: PipelineStep, total: dict[str, float]) -> tuple[dict[str, float], int]:
    """What one actor for a step takes of a cluster, and how many of them may be at most."""
    if step.gpus and total["GPU"]:
        return {"CPU": 0.0, "GPU": step.gpus}, max(1, int(total["GPU"] / step.gpus))
    cpus = min(step.cpus or total[MACHINE], total[MACHINE])
    return {"CPU": cpus, "GPU": 0.0}, max(1, int(total["CPU"] // cpus))


def waves_of(steps: dict[int, PipelineStep], total: dict[str, float]) -> list[dict[int, PipelineStep]]:
    """Steps whose actors have room in a cluster beside each other, so that shards stream through them at once. Those
    that have not come one after the other: an actor that waits for another's place would wait for ever. So would one
    that needs several cores of a machine while small ones hold a core on each; it comes alone."""
    waves: list[dict[int, PipelineStep]] = []
    taken, has_large = {"CPU": 0.0, "GPU": 0.0}, False
    for group in groups_of(steps):
        needs, _ = needs_of(next(iter(group.values())), total)
        is_large = needs["CPU"] > 1
        has_room = all(taken[name] + needs[name] <= total[name] for name in needs)
        if waves and has_room and not (is_large or has_large):
            waves[-1] |= group
            taken = {name: taken[name] + needs[name] for name in needs}
        else:
            waves.append(group)
            taken, has_large = needs, is_large
    return waves


@dataclass
class State:
    """A shard on its way through a cluster."""

    task: ShardTask
    reports: list[ShardReport] = field(default_factory=list)
    error: str = ""


class _RayWorker:
    """A ShardWorker as an actor of Ray Data: a row is a shard's State, pickled.

    Ray starts an actor that died again, with its row, and says nothing; so what it was trying is noted in a file.
    """

    def __init__(self, setup: WorkerSetup, run: str):
        import ray

        context = ray.get_runtime_context()
        n_threads = max(1, int(context.get_assigned_resources().get("CPU", 1)))
        gpu = str(ray.get_gpu_ids()[0]) if ray.get_gpu_ids() else None
        place = {"node": context.get_node_id(), "actor": context.get_actor_id(), "code": str(REPOSITORY)}
        self.worker = ShardWorker(replace(setup, gpu=gpu, n_threads=n_threads), self._try, place)
        self.notes = setup.folder / "side" / "trying" / f"{run}-{min(setup.steps)}"
        self.task: ShardTask | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        state = pickle.loads(row["state"])
        note = self.notes / str(state.task.shard)
        try:
            self.task = state.task
            if note.is_file():  # an actor died on the shard: its last note is the task as it must be done now
                died = pickle.loads(note.read_bytes())
                self.task = replace(self.task, suspects=died.suspects, poisonous=died.poisonous)
            for report in [] if state.error else self.worker.run(self.task):
                state.reports.append(report)
                state.task = after(state.task, report)
        except UserError as error:
            state.error = str(error)
        except Exception:  # the boundary of the actor: its owner ends the run with the traceback
            state.error = f"a mistake in a stage, not in the data:\n{traceback.format_exc()}"
        note.unlink(missing_ok=True)
        return {"state": pickle.dumps(state)}

    def __del__(self):
        # Ray Data lets go of the object when an actor's last row is done. It has no worker where it could not be made.
        if "worker" in vars(self):
            self.worker.close()

    def _try(self, digests: list[bytes]) -> None:
        put(self.notes / str(self.task.shard), pickle.dumps(self.task.after_death(digests)))


def make_runner(arguments: RunnerArguments) -> ShardRunner:
    """The runner that the arguments name. Raises UserError for one that is none."""
    if arguments.engine == "local":
        return LocalRunner(arguments)
    if arguments.engine == "ray":
        return RayRunner(arguments)
    raise UserError(f"--engine {arguments.engine}: no such engine; choose local (this machine) or ray (a Ray cluster)")


def visible_gpus() -> list[str]:
    """The GPUs of this machine, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    n = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:n] if len(named) >= n else [str(i) for i in range(n)]
