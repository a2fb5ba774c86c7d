"""Let an offline model describe the events of LiveSports-3K-CC, each from all its frames at once.

    python evaluation/livesports3kcc/distributed_generate_caption.py --model_name_or_path Qwen/Qwen2.5-VL-7B-Instruct \\
        --output_dir evaluation/livesports3kcc/captions --num_workers 8
    ... --api_model gpt-4o-2024-08-06 --max_cost 50        a model behind an OpenAI-compatible endpoint, in its place

Hardware: a GPU of 40 GB for a 7B model in bfloat16, faster with 8 (one process each); nothing but the network for an
endpoint. Writes answers as they come, so the same command continues after a kill, and MODEL.jsonl (video_id, event_id,
begin, end, pred) at the end; llm_judge.py scores it, or takes it as the baseline. Exit status 3 where an event has no
answer.
"""

import functools
import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation.livesports3kcc.distributed_generate_livecc import judge_command
from evaluation.livesports3kcc.task import EventCaptionArguments, load_captions
from evaluation.predictors.load import load_captioner
from evaluation.predictors.predictor import Predictor
from evaluation.predictors.predictor_arguments import CaptionerArguments
from evaluation.runner.command import run_task
from evaluation.runner.predictions import generate
from evaluation.runner.run import EvaluationArguments
from evaluation.tasks.task import Task
from utils.arguments import parse_arguments
from utils.endpoint import EndpointArguments
from utils.errors import run_command


def caption(next_step: str, task: Task, predictor: Predictor, folder: Path, resume: bool) -> int:
    """Write the captions, and what they cost where an endpoint wrote them; returns the exit status."""
    try:
        return generate(task, predictor, folder, resume, next_step)
    finally:
        if endpoint := getattr(predictor, "endpoint", None):
            print(f"{endpoint.place}: {endpoint.budget.summary()}")


def main() -> int:
    """Run the command; returns its exit status."""
    events, captioner, endpoint, run = parse_arguments(
        EventCaptionArguments,
        CaptionerArguments,
        EndpointArguments,
        EvaluationArguments,
        description=__doc__.splitlines()[0],
    )
    baseline = "or others against it, with --baseline_jsonl {file} --baseline_id {model}"
    work = functools.partial(caption, f"{judge_command(events)}\n{baseline}")
    default = Path(__file__).parent / "captions"
    return run_task(load_captions, events, (captioner, endpoint), run, default, load_captioner, work)


if __name__ == "__main__":
    run_command(main)
