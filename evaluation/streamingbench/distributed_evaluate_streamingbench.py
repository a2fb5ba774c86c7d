"""Ask a model the questions of StreamingBench, real-time part, each at its time.

    torchrun --standalone --nproc_per_node=8 evaluation/streamingbench/distributed_evaluate_streamingbench.py \\
        --model_name_or_path chenjoya/LiveCC-7B-Instruct --benchmark_path Real_Time_Visual_Understanding.csv
    python evaluation/streamingbench/distributed_evaluate_streamingbench.py ...      the same in one process per GPU

Hardware: a GPU of 80 GB for a 7B model; a CPU for the nano model. Writes answers as they come, so the same command
continues after a kill, and MODEL_PROTOCOL.result.json at the end. Exit status 3 where a question has no answer.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation.predictors.live_memory import LiveMemory
from evaluation.predictors.load import load_answerer, load_watcher
from evaluation.predictors.predictor_arguments import AnswererArguments
from evaluation.runner.command import run_task
from evaluation.runner.run import EvaluationArguments
from evaluation.streamingbench.task import StreamingBenchArguments, load_task
from utils.arguments import parse_arguments
from utils.errors import run_command


def main() -> int:
    """Run the command; returns its exit status."""
    benchmark, model, memory, run = parse_arguments(
        StreamingBenchArguments, AnswererArguments, LiveMemory, EvaluationArguments, description=__doc__.splitlines()[0]
    )
    default = Path(__file__).parent / "results"
    if benchmark.online:
        return run_task(load_task, benchmark, (model, memory), run, default, load_watcher)
    return run_task(load_task, benchmark, model, run, default, load_answerer)


if __name__ == "__main__":
    run_command(main)
