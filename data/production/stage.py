"""The contract of a stage: a small class over records, the same for every runner.

A module data/production/NAME.py is the stage NAME: it holds one subclass of Stage, assigned to STAGE, and ends with

    if __name__ == "__main__":
        from data.production.command import run_stage

        run_stage(STAGE)

which makes it a command over JSONL files; its name stands in STAGES below, which configs choose from. A stage outside
this folder needs no entry: it goes by its module's dotted name, which must be its `name` too. A sketch:

    @dataclass
    class LossOptions:
        model: str = field(default="Qwen/Qwen2-1.5B-Instruct", metadata={"help": "any causal LM"})
        max_loss: float = field(default=6.5, metadata={"help": "keep clips up to this", "threshold": True})

    class LmLoss(Stage):
        name, version, Options = "lm_loss", 1, LossOptions
        batch_size, gpus, cpus = 256, 1.0, 0

        def setup(self, worker):
            self.model = load(self.options.model, worker.device)

        def process(self, records):              # what is dear: run once for each record, kept on disk
            for record, loss in zip(records, self.losses(records)):
                record.scores["lm_loss"] = loss
            return [[record] for record in records]

        def judge(self, record):                 # what is cheap: run again when a threshold changes
            if record.scores["lm_loss"] > self.options.max_loss:
                record.reject(self.name, "loss_too_high", f"{record.scores['lm_loss']:.2f} > {self.options.max_loss}")

What a stage returns for a record must depend on that record and on the options alone: not on the batch, the shard, the
order, the worker, the time, or chance (draw from record.id). Runners, resume and retries rely on it.
"""

import importlib
import json
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from data.production.record import Record, to_line
from utils.errors import UserError, did_you_mean

STAGES = (
    "caption_offset",
    "distributed_lighter_asd",
    "distributed_lmm4asd",
    "distributed_whisperx",
    "held_out_split",
    "language_detect",
    "lm_loss",
    "make_prompt",
    "make_proxies",
    "metadata_filter",
    "motion_score",
    "near_duplicates",
    "personal_data",
    "pretrain_to_clips",
    "profanity",
    "sft_to_clips",
    "to_conversation",
    "word_times",
)  # data/production/NAME.py
INPUTS = ("folder_input", "jsonl_input")  # data/production/inputs/NAME.py


class StopRun(UserError):
    """The whole run must end now (a spending cap, a server that is gone). What is done is kept."""


class RecordFailed(Exception):
    """A stage cannot work on one record. cause: a short name that is counted. Any other exception fails it as well,
    with the exception's name as the cause; this one says it better. `--retry_failed` tries such records again."""

    def __init__(self, cause: str, detail: str = ""):
        super().__init__(f"{cause}: {detail}" if detail else cause)
        self.cause, self.detail = cause, detail


@dataclass
class Worker:
    """Where a stage works. One process has one; a stage on several workers is set up on each.

    device: "cuda:0" (the runner shows each worker its GPU as number 0) or "cpu". side: folder of what may differ
    between runs without making their output different (times, hosts, costs, kept replies); one for each stage.
    """

    device: str = "cpu"
    n_threads: int = 1
    side: Path = Path("side")

    def note(self, **facts: Any) -> None:
        """Append facts of this run to the stage's side file: seconds, dollars, tokens. Sums go to the report."""
        self.side.mkdir(parents=True, exist_ok=True)
        row = {"at": round(time.time(), 3), "host": socket.gethostname(), "pid": os.getpid(), **facts}
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        # One write of one line: several processes may append to one file.
        handle = os.open(self.side / f"notes-{row['host']}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


@dataclass
class NoOptions:
    """For stages without any."""


class Stage:
    """One step of production. Subclasses set the fields and override `process` or `expand`, and `judge` if they like.

    name: the module's. version: raise it whenever the same input gives another output; what was made with another
    version is made again, and so is what follows from it. Options: a dataclass; every field has metadata "help" and is
    a flag and a key in a config. A field with metadata "threshold": True may be read in `judge` only, and "side": True
    marks one that cannot change the output (batch sizes, prices, the address of a server): a change of it reruns
    nothing.
    batch_size: records that `process` gets at once (at most; the shard's last batch is smaller).
    gpus: share of a GPU that a worker needs; it is used where there is one. cpus: cores of a worker without a GPU;
    0: all of the machine's, so that there is one worker with all threads.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Options: ClassVar[type] = NoOptions
    batch_size: int = 64
    gpus: float = 0.0
    cpus: int = 1

    def __init__(self, options: Any = None):
        self.options = self.Options() if options is None else options
        self.gathered: Any = None

    def check(self) -> None:
        """Before anything runs, on the driver, each time: raises UserError for options that cannot work."""

    def fingerprint(self) -> str:
        """What else decides the output, such as the content of a model's folder; part of the resume key."""
        return ""

    def gather(self, shards: Iterable[Iterable[Record]]) -> Any:
        """Override it where a record's fate depends on others (near duplicates): called once on the driver with every
        record that reaches the stage, in order; must run in little memory. Its result, any JSON, is kept and is
        `self.gathered` in `process`. All earlier stages are complete before."""

    def setup(self, worker: Worker) -> None:
        """Once in each worker, before its first batch: load models. UserError here ends the run."""

    def process(self, records: list[Record]) -> list[list[Record]]:
        """What becomes of each record, in the order of the records: [] or [itself] or its parts.

        A record that is lost must not be lost in silence: return it with `record.reject(...)`, words that are left
        out as rejected parts. Rejected records are not given to later stages. An exception fails the batch's records
        one by one: each is tried alone, and those that raise again are kept as failed, with their cause.
        """
        return [list(self.expand(record)) for record in records]

    def expand(self, record: Record) -> Iterable[Record]:
        """The same for one record: override this one where batches mean nothing."""
        return [record]

    def judge(self, record: Record) -> None:
        """Reject a processed record by the thresholds; cheap, and without models. Called for kept records only."""

    def teardown(self) -> None:
        """Once in each worker after its last batch: free models, flush notes."""

    @classmethod
    def has_process(cls) -> bool:
        """Whether there is something dear to do."""
        return cls.process is not Stage.process or cls.expand is not Stage.expand

    @classmethod
    def has_judge(cls) -> bool:
        """Whether there is something to decide by thresholds."""
        return cls.judge is not Stage.judge

    @classmethod
    def has_gather(cls) -> bool:
        """Whether all records must be seen first."""
        return cls.gather is not Stage.gather


class Input(ABC):
    """The contract of an input: like a stage, a module's INPUT with name, version and Options, chosen in a config.

    A shard is small JSON that says what to read, and never the data: a run has thousands in memory at once.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    Options: ClassVar[type] = NoOptions

    def __init__(self, options: Any = None):
        self.options = self.Options() if options is None else options

    @abstractmethod
    def shards(self, size: int) -> Iterator[dict]:
        """What there is to read, `size` records each, in a fixed order. Called on the driver. UserError for input that
        is not there. Part of the resume key, so it holds what tells that a file has changed: size and time will do,
        since later stages go by content."""

    @abstractmethod
    def read(self, shard: dict) -> Iterator[Record]:
        """The records of a shard, in a worker. One that cannot be read is a Record with an id and a rejection that
        says file and line (failed=True where another try may help), never an exception."""

    def read_lines(self, shard: dict) -> Iterator[tuple[Record, bytes]]:
        """The same with each record's line; an input whose lines are records already need not write them anew."""
        return ((record, to_line(record)) for record in self.read(shard))


def load_stage(name: str) -> type[Stage]:
    """The stage class of data/production/NAME.py, or of a dotted module. Raises UserError for a name that is none."""
    return _load(name, "STAGE", "stage", "data.production", STAGES)


def load_input(name: str) -> type[Input]:
    """The input class of data/production/inputs/NAME.py, or of a dotted module. Raises UserError likewise."""
    return _load(name, "INPUT", "input", "data.production.inputs", INPUTS)


def has_flag(options: Any, field_name: str, mark: str) -> bool:
    """Whether a field of an options dataclass is marked as "threshold" or "side"."""
    return any(f.name == field_name and f.metadata.get(mark, False) for f in fields(options))


def _load(name: str, constant: str, what: str, package: str, known: Sequence[str]) -> Any:
    if "." in name:
        try:
            return getattr(importlib.import_module(name), constant)
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"{name!r}: no module with a {constant} ({error}); run from the folder that holds it"
            ) from None
    if name not in known:
        raise UserError(f"{name!r}: no such {what}; choose one of {', '.join(known)}{did_you_mean(name, known)}")
    return getattr(importlib.import_module(f"{package}.{name}"), constant)
