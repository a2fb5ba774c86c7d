"""Ask a model the questions of OVO-Bench, each at its time.

    python evaluation/ovobench/transfer_annotation_format.py --input OVOBENCH/ovo_bench_new.json \\
        --output OVOBENCH/ovo-bench-formatted.jsonl
    torchrun --standalone --nproc_per_node=8 evaluation/ovobench/distributed_evaluate_ovobench.py \\
        --benchmark_dir OVOBENCH [--model_name_or_path chenjoya/LiveCC-7B-Instruct] [--protocol official]

Hardware: a GPU of 80 GB for a 7B model; a CPU for the nano model. 3,035 queries; each clip is another window of its
video, so most are decoded and prefilled of their own. Writes answers as they come, so the same command continues after
a kill, and MODEL_PROTOCOL.result.json at the end. Exit status 3 where a query has no answer.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation.ovobench.task import OVOBenchArguments, load_task
from evaluation.predictors.live_memory import LiveMemory
from evaluation.predictors.load import load_answerer, load_watcher
from evaluation.predictors.predictor_arguments import AnswererArguments
from evaluation.runner.command import run_task
from evaluation.runner.run import EvaluationArguments
from utils.arguments import parse_arguments
from utils.errors import run_command


def main() -> int:
    """Run the command; returns its exit status."""
    benchmark, model, memory, run = parse_arguments(
        OVOBenchArguments, AnswererArguments, LiveMemory, EvaluationArguments, description=__doc__.splitlines()[0]
    )
    default = Path(__file__).parent / "results"
    if benchmark.online:
        return run_task(load_task, benchmark, (model, memory), run, default, load_watcher)
    return run_task(load_task, benchmark, model, run, default, load_answerer)


if __name__ == "__main__":
    run_command(main)
