"""Ask a model the questions of VideoMME.

    torchrun --standalone --nproc_per_node=8 evaluation/videomme/distributed_evaluate_videomme.py \\
        --model_name_or_path chenjoya/LiveCC-7B-Instruct --benchmark_path videomme.jsonl [--with_subtitles]
    python evaluation/videomme/distributed_evaluate_videomme.py ...      the same in one process per GPU

Hardware: a GPU of 80 GB for a 7B model (8 of them: under an hour by the published account); a CPU for the nano
model. Writes answers as they come, so the same command continues after a kill, and MODEL_no_subtitles.json, .txt and
.result.json at the end. Exit status 3 where a question has no answer.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation.predictors.load import load_answerer
from evaluation.predictors.predictor_arguments import AnswererArguments
from evaluation.runner.command import run_task
from evaluation.runner.run import EvaluationArguments
from evaluation.videomme.task import VideoMMEArguments, load_task
from utils.arguments import parse_arguments
from utils.errors import run_command


def main() -> int:
    """Run the command; returns its exit status."""
    benchmark, model, run = parse_arguments(
        VideoMMEArguments, AnswererArguments, EvaluationArguments, description=__doc__.splitlines()[0]
    )
    return run_task(load_task, benchmark, model, run, Path(__file__).parent / "results", load_answerer)


if __name__ == "__main__":
    run_command(main)
