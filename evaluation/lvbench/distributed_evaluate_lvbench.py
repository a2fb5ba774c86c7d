"""Ask a model the questions of LVBench.

    torchrun --standalone --nproc_per_node=8 evaluation/lvbench/distributed_evaluate_lvbench.py \\
        --model_name_or_path chenjoya/LiveCC-7B-Instruct --benchmark_path video_info.meta.jsonl
    python evaluation/lvbench/distributed_evaluate_lvbench.py ...      the same in one process per GPU

Hardware: a GPU of 80 GB for a 7B model; a CPU for the nano model. Writes answers as they come, so the same command
continues after a kill, and MODEL_PROTOCOL.result.json at the end. Exit status 3 where a question has no answer. Run on
hand-made rows only: the benchmark's own videos were not at hand.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation.lvbench.task import load_task
from evaluation.predictors.load import load_answerer
from evaluation.predictors.predictor_arguments import AnswererArguments
from evaluation.runner.command import run_task
from evaluation.runner.run import EvaluationArguments
from evaluation.tasks.letter_questions import LetterArguments
from utils.arguments import parse_arguments
from utils.errors import run_command


def main() -> int:
    """Run the command; returns its exit status."""
    benchmark, model, run = parse_arguments(
        LetterArguments, AnswererArguments, EvaluationArguments, description=__doc__.splitlines()[0]
    )
    return run_task(load_task, benchmark, model, run, Path(__file__).parent / "results", load_answerer)


if __name__ == "__main__":
    run_command(main)
