"""A stage as a command over JSON lines: a run with one stage, so it resumes, shows progress and runs on Ray as well."""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from data.production.output.jsonl import HELD_OUT
from data.production.run import exit_status, run_config
from data.production.runner.config import OutputOptions, RunConfig
from data.production.runner.progress import RunResult
from data.production.runner.runners import RunnerArguments
from data.production.stage import Stage, load_input, load_stage
from utils.errors import UserError, run_command
from utils.files import partial_file, write_whole


@dataclass
class StageArguments(RunnerArguments):
    """Files, and where the work is done."""

    input: str = field(
        default="", metadata={"positional": True, "metavar": "IN.jsonl", "help": "records, one a line", "path": "file"}
    )
    output: str = field(
        default="",
        metadata={
            "positional": True,
            "metavar": "OUT.jsonl",
            "help": "records that go on; OUT.work/ keeps the others",
            "path": "output_file",
        },
    )
    shard_size: int = field(default=500, metadata={"help": "records that are kept together", "ge": 1})


def run_stage(stage: type[Stage]) -> None:
    """The command of a stage's module; ends the process."""
    run_command(lambda: stage_main(stage.name))


def stage_main(name: str, argv: list[str] | None = None) -> int:
    """Take the records of one file through one stage into another; 3 where records failed, 4 where none
    came through.

    Samples that are held out go to OUT_held_out.jsonl, as those of a run do.
    """
    from utils.arguments import parse_arguments

    # The stage may be this process's main module: workers need it by its name.
    cls = load_stage(name)
    description = (sys.modules[cls.__module__].__doc__ or name).splitlines()[0]
    arguments, options = parse_arguments(StageArguments, cls.Options, description=description, argv=argv)
    reader = load_input("jsonl_input")
    config = RunConfig(
        f"{name} {arguments.input}",
        reader(reader.Options([arguments.input])),
        [cls(options)],
        OutputOptions(name=Path(arguments.output).stem, seeks=False),
        arguments.shard_size,
    )
    output = Path(arguments.output)
    if output.suffix != ".jsonl":
        raise UserError(f"{output}: the output is JSON lines; give a name that ends in .jsonl")
    if output.resolve() == Path(arguments.input).resolve():
        raise UserError(f"{output}: is the input too; give another name for the output")
    folder = output.with_suffix(".work")
    before = places_of(folder, output)
    result = run_config(config, folder, arguments)
    return finish(result, output, before)


def finish(result: RunResult, output: Path, before: dict[str, Path]) -> int:
    """Put the outputs beside their work folder, and say what became of the records.

    before: what an earlier run has put there; what this one has not made goes.
    """
    places = places_of(result.folder, output)
    for name, place in places.items():
        link_file(result.folder / name, place)
    for name in before.keys() - places.keys():
        before[name].unlink(missing_ok=True)
    if output.name not in places:
        write_whole(output, b"")
    counts = result.progress.counts
    held_out = {name: n for name, n in result.files.items() if name in places and name != output.name}
    n_out = counts[-1].kept.records - sum(held_out.values())
    print(f"{counts[0].kept.records:,} records in, {n_out:,} out in {output}")
    for name, n in held_out.items():
        print(f"{n:,} more held out, in {places[name]}")
    for step, counted in zip(result.steps, counts, strict=True):
        for reason, tally in counted.reasons.items():
            print(f"  {step.name}: {tally.records:,} {reason}, {tally.words:,} words")
    if result.n_failed:
        print(f"{result.folder / 'failed.jsonl'} says what failed; --retry_failed tries it again", file=sys.stderr)
    return exit_status(result)


def places_of(folder: Path, output: Path) -> dict[str, Path]:
    """The files of a run that belong beside its work folder, by name: the output, and samples that are held out."""
    names = (output.name, f"{output.stem}_{HELD_OUT}.jsonl")
    return {name: output.with_name(name) for name in names if (folder / name).is_file()}


def link_file(made: Path, place: Path) -> None:
    """Give a file another name, in place of what has it. Raises UserError where that cannot be."""
    try:
        with partial_file(place) as partial:
            os.link(made, partial)
    except OSError as error:
        raise UserError(f"{place}: cannot be written ({error}); {made} has it") from error
