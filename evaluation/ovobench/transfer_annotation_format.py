"""Turn OVO-Bench's annotations into the lines that its evaluation reads: one line a query time.

    python evaluation/ovobench/transfer_annotation_format.py --input OVOBENCH/ovo_bench_new.json \\
        --output OVOBENCH/ovo-bench-formatted.jsonl

A CPU is enough: less than a second. The published 1,640 entries become 3,035 lines, which the command counts per task.
"""

import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation.ovobench.annotations import TASK_GROUPS, queries_of
from evaluation.tasks.lines import read_benchmark
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command
from utils.files import write_whole


@dataclass
class TransferArguments:
    """The published file, and where the lines go."""

    input: str = field(metadata={"help": "ovo_bench_new.json of the benchmark", "path": "file"})
    output: str = field(metadata={"help": "ovo-bench-formatted.jsonl, best beside it", "path": "output_file"})


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    (arguments,) = parse_arguments(TransferArguments, description=__doc__.splitlines()[0], argv=argv)
    entries = list(read_benchmark(arguments.input))
    lines = [line for entry in entries for line in queries_of(entry)]
    if not lines:
        raise UserError(f"{arguments.input}: no entries in it; expected OVO-Bench's ovo_bench_new.json")
    write_whole(Path(arguments.output), "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    counts = Counter(line["task"] for line in lines)
    print(f"{len(entries)} entries, {len(lines)} queries -> {arguments.output}")
    print(", ".join(f"{task} {counts[task]}" for task in TASK_GROUPS))


if __name__ == "__main__":
    run_command(main)
