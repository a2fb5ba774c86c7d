"""One page about results: scores with error bars, plots, comparisons, failures, and samples with their frames.

    python evaluation/report.py DIR
    python evaluation/report.py evaluation/videomme/results --output videomme.html

DIR is searched for *.result.json, and where it holds none, for published result files. A CPU is enough: 2 s, and a
second for every few samples whose video is still there. Writes DIR/report.html, one file that needs no network.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.pages.report_page import report_page
from evaluation.pages.report_samples import SampleView, choose_samples
from evaluation.scoring.scored_runs import ScoredRun, read_runs
from utils.arguments import helped, parse_arguments
from utils.errors import UserError, run_command
from utils.files import write_whole


@dataclass
class EvaluationReportArguments:
    """Which results are shown, and where."""

    folder: str = field(metadata={"positional": True, "metavar": "DIR", "help": "folder of results", "path": "folder"})
    output: Path | None = helped(None, "the page; default: DIR/report.html", path="output_file")
    samples: int = helped(12, "items of each benchmark shown with frames and answers")


def main(argv: list[str] | None = None) -> int:
    """Write the page."""
    (arguments,) = parse_arguments(EvaluationReportArguments, description=__doc__.splitlines()[0], argv=argv)
    if arguments.samples < 0:
        raise UserError(f"--samples {arguments.samples}: give a number of items, 0 for none")
    folder = Path(arguments.folder)
    output = arguments.output or folder / "report.html"
    scored = [ScoredRun(run) for run in read_runs([folder])]
    write_whole(output, report_page(str(folder), by_benchmark(scored), samples_of(scored, arguments.samples)))
    print(output)
    return 0


def by_benchmark(scored: Sequence[ScoredRun]) -> dict[str, list[ScoredRun]]:
    """Group scored runs by benchmark."""
    groups: dict[str, list[ScoredRun]] = {}
    for one in scored:
        groups.setdefault(one.run.benchmark, []).append(one)
    return groups


def samples_of(scored: Sequence[ScoredRun], n_samples: int) -> dict[str, list[SampleView]]:
    """Samples by benchmark, read with a progress bar."""
    return {name: choose_samples(inside, n_samples) for name, inside in by_benchmark(scored).items()}


if __name__ == "__main__":
    run_command(main)
