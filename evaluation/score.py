"""Score stored results, without a model: with error bars, floors, and item by item where there are several.

    python evaluation/score.py [BENCHMARK] RESULT...
    python evaluation/score.py videomme evaluation/videomme/results
    python evaluation/score.py ovobench MODEL.result.json OVO-Bench/results/QWen2VL_7B
    python evaluation/score.py livesports3kcc judges/GPT-4o_LiveCC-7B-Base.jsonl --json True

RESULT is a *.result.json that an evaluation wrote, a file in the benchmark's published format, a log of samples of
lmms-eval, a table of VLMEvalKit, or a folder of these; any two on the same items are compared. BENCHMARK may be left
out where the files' names tell it. A CPU is enough: a second for 2,700 answers. Prints tables in a terminal and JSON
lines elsewhere. Exit status 3 where an item has no answer or too much is missing for a score, 2 where the input is bad.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.runner.run import FAILED
from evaluation.scoring.benchmarks import benchmark_names, scores_of
from evaluation.scoring.score_lines import print_runs
from evaluation.scoring.scored_runs import ScoredRun, read_runs
from utils.arguments import helped, parse_arguments
from utils.errors import UserError, run_command


@dataclass
class ScoreArguments:
    """What is scored, and how it is said."""

    benchmark: str = field(
        metadata={"positional": True, "help": "a folder of evaluation/, such as videomme; or the first RESULT"}
    )
    results: list[str] = field(
        default_factory=list,
        metadata={"positional": True, "metavar": "RESULT", "help": "files of results, or folders of them"},
    )
    json: bool | None = helped(None, "JSON lines; by default where the output is no terminal")


def main(argv: list[str] | None = None) -> int:
    """Print the scores; 3 where an item has no answer."""
    (arguments,) = parse_arguments(ScoreArguments, description=__doc__.splitlines()[0], argv=argv)
    benchmark, paths = arguments.benchmark, arguments.results
    if benchmark not in benchmark_names() and Path(benchmark).exists():
        benchmark, paths = None, [benchmark, *paths]
    else:
        scores_of(benchmark)  # a wrong name is said before a missing file
    if not paths:
        raise UserError(f"{benchmark}: of which results? Give files or folders of them")
    runs = read_runs(paths, benchmark)
    print_runs(runs, arguments.json)
    n_failed = sum(result.failed for run in runs for result in run.results)
    problems = [problem for run in runs if (problem := ScoredRun(run).headline_problem)]
    if n_failed:
        print(f"{n_failed} items have no answer", file=sys.stderr)
    return FAILED if n_failed or problems else 0


if __name__ == "__main__":
    run_command(main)
