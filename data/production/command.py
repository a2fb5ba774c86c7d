"""A stage as a command over JSON lines: a run with one stage, so it resumes, shows progress and runs on Ray as well."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from data.production.config import OutputOptions, RunConfig
from data.production.run import EngineArguments, RunResult, run_config
from data.production.stage import Stage, load_source, load_stage
from utils.errors import UserError, run_command


@dataclass
class StageArguments(EngineArguments):
    """Files, and where the work is done."""

    input: str = field(default="", metadata={"positional": True, "metavar": "IN.jsonl", "help": "records, one a line"})
    output: str = field(
        default="",
        metadata={"positional": True, "metavar": "OUT.jsonl", "help": "records that go on; OUT.work/ keeps the others"},
    )
    shard_size: int = field(default=500, metadata={"help": "records that are kept together"})


def run_stage(stage: type[Stage]) -> None:
    """The command of a stage's module; ends the process."""
    run_command(lambda: stage_main(stage.name))


def stage_main(name: str, argv: list[str] | None = None) -> int:
    """Take the records of one file through one stage into another; 3 where records failed."""
    from utils.arguments import parse_arguments

    # The stage may be this process's main module: workers need it by its name.
    cls = load_stage(name)
    description = (sys.modules[cls.__module__].__doc__ or name).splitlines()[0]
    arguments, options = parse_arguments(StageArguments, cls.Options, description=description, argv=argv)
    source = load_source("jsonl_input")
    config = RunConfig(
        f"{name} {arguments.input}",
        source(source.Options([arguments.input])),
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
    result = run_config(config, folder, arguments)
    return finish(result, output)


def finish(result: RunResult, output: Path) -> int:
    """Put the output beside its work folder, and say what became of the records."""
    import os

    made = folder_file(result, output.name)
    if made is None:
        output.write_bytes(b"")
    else:
        link = output.with_name(f".{output.name}.{os.getpid()}.partial")
        os.link(made, link)
        os.replace(link, output)
    count = result.progress.counts
    n_in, last = count[0].kept.records, count[-1].kept
    print(f"{n_in:,} records in, {last.records:,} out in {output}")
    for link, counted in zip(result.links, count, strict=True):
        for reason, tally in counted.reasons.items():
            print(f"  {link.name}: {tally.records:,} {reason}, {tally.words:,} words")
    if result.n_failed:
        print(f"{result.folder / 'failed.jsonl'} says what failed; --retry_failed tries it again", file=sys.stderr)
    return 3 if result.n_failed else 0


def folder_file(result: RunResult, name: str) -> Path | None:
    """A file of the run, where there is one."""
    return result.folder / name if name in result.files else None
