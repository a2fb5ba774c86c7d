"""Score stored results, without a model: with error bars, floors, and item by item where there are several.

    python evaluation/score.py BENCHMARK RESULT...
    python evaluation/score.py videomme evaluation/videomme/results
    python evaluation/score.py livesports3kcc judges/GPT-4o_LiveCC-7B-Base.jsonl --json True

RESULT is a *.result.json that an evaluation wrote, a file in the benchmark's published format, or a folder of either. A
CPU is enough: a second for 2,700 answers. Prints tables in a terminal and JSON lines elsewhere. Exit status 3 where an
item has no answer, 2 where the input is bad.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.runner.run import FAILED
from evaluation.scoring.benchmarks import scores_of
from evaluation.scoring.score_lines import print_runs
from evaluation.scoring.scored_runs import read_runs
from utils.arguments import helped, parse_arguments
from utils.errors import run_command


@dataclass
class ScoreArguments:
    """What is scored, and how it is said."""

    benchmark: str = field(metadata={"positional": True, "help": "a folder of evaluation/, such as videomme"})
    results: list[str] = field(
        metadata={"positional": True, "metavar": "RESULT", "help": "files of results, or folders of them"}
    )
    json: bool | None = helped(None, "JSON lines; by default where the output is no terminal")


def main(argv: list[str] | None = None) -> int:
    """Print the scores; 3 where an item has no answer."""
    (arguments,) = parse_arguments(ScoreArguments, description=__doc__.splitlines()[0], argv=argv)
    scores_of(arguments.benchmark)  # a wrong name is said before a missing file
    runs = read_runs(arguments.results, arguments.benchmark)
    print_runs(runs, arguments.json)
    n_failed = sum(result.failed for run in runs for result in run.results)
    if n_failed:
        print(f"{n_failed} items have no answer; they count as wrong", file=sys.stderr)
    return FAILED if n_failed else 0


if __name__ == "__main__":
    run_command(main)
