"""A run as a chain of steps: reading the input, then each stage's dear part and its thresholds, each kept on disk.

A step's spec is a digest of all that decides what it makes of a record: name, version, options. What it makes of a
shard is kept under its spec and the digest of the shard's input. So a changed option finds nothing kept from that step
on, and where the step makes the same of a shard as before, what follows finds everything.
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Literal

import orjson

from data.production.stage import Input, Stage, has_flag, load_input, load_stage

FORMAT = 1  # of records and kept files: raise it when either changes
Part = Literal["read", "process", "judge"]


@dataclass(frozen=True)
class PipelineStep:
    """One step that is kept. gathered: what the stage gathered from all records, as JSON."""

    stage: str
    part: Part
    options: Any
    spec: str
    gpus: float = 0.0
    cpus: int = 1
    gathers: bool = False
    gathered: bytes = b""

    @property
    def is_light(self) -> bool:
        """Whether it needs no more than a core, so that a worker can do several such steps in a row."""
        return not self.gpus and self.cpus == 1

    @cached_property
    def name(self) -> str:
        """For people and folders."""
        return self.stage if self.part != "judge" else f"{self.stage}.judge"

    def make_stage(self) -> Stage:
        """The stage, not set up."""
        stage = load_stage(self.stage)(self.options)
        stage.gathered = orjson.loads(self.gathered) if self.gathered else None
        return stage

    def make_input(self) -> Input:
        """The input."""
        return load_input(self.stage)(self.options)

    def with_gathered(self, gathered: bytes) -> "PipelineStep":
        """The step that knows what was gathered; its spec changes with it."""
        return replace(self, gathered=gathered, spec=digest_of([self.spec, digest_bytes(gathered)]), gathers=False)


def input_step(records_in: Input) -> PipelineStep:
    """The step that reads an input."""
    said = ["read", records_in.name, records_in.version, FORMAT, _deciding(records_in.options)]
    return PipelineStep(records_in.name, "read", records_in.options, digest_of(said))


def stage_steps(stage: Stage) -> list[PipelineStep]:
    """The steps of a stage: `process`, `judge`, or both."""
    steps = []
    has_process, has_judge = stage.has_process(), stage.has_judge()
    if has_process or not has_judge:
        options = _deciding(stage.options, thresholds=not has_judge)
        spec = digest_of(["process", stage.name, stage.version, FORMAT, options, stage.fingerprint()])
        needs = {"gpus": stage.gpus, "cpus": stage.cpus, "gathers": stage.has_gather()}
        steps.append(PipelineStep(stage.name, "process", stage.options, spec, **needs))
    if has_judge:
        spec = digest_of(["judge", stage.name, stage.version, FORMAT, _deciding(stage.options)])
        steps.append(PipelineStep(stage.name, "judge", stage.options, spec, gathers=not steps and stage.has_gather()))
    return steps


def groups_of(steps: dict[int, PipelineStep]) -> list[dict[int, PipelineStep]]:
    """Steps that one kind of worker does in a row, by number: light ones together, each other one alone."""
    groups: list[dict[int, PipelineStep]] = []
    was_light = False
    for number, step in steps.items():
        if step.is_light and was_light:
            groups[-1][number] = step
        else:
            groups.append({number: step})
        was_light = step.is_light
    return groups


def digest_of(value: Any) -> str:
    """Hex digest of JSON."""
    return digest_bytes(orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str))


def digest_bytes(data: bytes) -> str:
    """Hex digest, 32 digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _deciding(options: Any, thresholds: bool = True) -> dict[str, Any]:
    """The options that decide the output."""
    names = [name for name in asdict(options) if not has_flag(options, name, "side")]
    return {n: getattr(options, n) for n in names if thresholds or not has_flag(options, n, "threshold")}
