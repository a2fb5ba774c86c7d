"""Let a streaming model comment on the events of LiveSports-3K-CC.

    python evaluation/livesports3kcc/distributed_generate_livecc.py --model_name_or_path chenjoya/LiveCC-7B-Instruct \\
        --output_dir evaluation/livesports3kcc/livecc --num_workers 8 --repetition_penalty 1.15
    ... --model_name_or_path chenjoya/LiveCC-7B-Base --not_instruct_model        a base model: plain context

Hardware: a GPU of 24 GB for a 7B model in bfloat16, faster with 8 (one process each); a CPU for the nano model. Writes
answers as they come, so the same command continues after a kill, and MODEL.jsonl (video_id, event_id, begin, end, pred)
at the end; llm_judge.py scores it. Exit status 3 where an event has no answer.
"""

import functools
import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation.livesports3kcc.events import HUB_ID
from evaluation.livesports3kcc.task import CommentaryArguments, EventArguments, load_commentaries
from evaluation.predictors.predictor_arguments import PredictorArguments
from evaluation.runner.command import run_task
from evaluation.runner.predictions import generate
from evaluation.runner.run import EvaluationArguments
from utils.arguments import parse_arguments
from utils.errors import run_command


def judge_command(events: EventArguments) -> str:
    """Command that scores a file of predictions; {model}, {file} and {folder} in it are still to be filled."""
    command = "  python evaluation/livesports3kcc/llm_judge.py --model_id {model} --prediction_jsonl {file} "
    command += "--output_dir {folder}/judges --num_workers 16"
    return command if events.annotations == HUB_ID else f"{command} --annotations {events.annotations}"


def main() -> int:
    """Run the command; returns its exit status."""
    events, model, run = parse_arguments(
        CommentaryArguments, PredictorArguments, EvaluationArguments, description=__doc__.splitlines()[0]
    )
    load_task = functools.partial(load_commentaries, compat=model.compat)
    work = functools.partial(generate, next_step=judge_command(events))
    return run_task(load_task, events, model, run, Path(__file__).parent / "livecc", work=work)


if __name__ == "__main__":
    run_command(main)
