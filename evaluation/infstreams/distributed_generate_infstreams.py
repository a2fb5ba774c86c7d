"""Let a streaming model comment on the games of Inf-Streams-Eval, and cut what it says to the windows that are judged.

    python evaluation/infstreams/distributed_generate_infstreams.py --model_name_or_path chenjoya/LiveCC-7B-Instruct \\
        --windows_path datasets/Inf-Stream-Eval/WINDOWS.jsonl --output_dir evaluation/infstreams/livecc
    ... --chunk_s 100 --cache_policy full                  start anew every 100 s, as the published chunk mode

Hardware: a GPU of 24 GB for a 7B model in bfloat16, faster with more (a game each); a CPU for the nano model. Writes
MODEL.jsonl (video_id, event_id, begin, end, pred) and windows.jsonl, the windows as events of LiveSports-3K-CC, which
the captioner and llm_judge.py of that benchmark read. A game is kept when it is done, so a kill costs the games in
progress. Exit status 3 where a game has no answer. Run on hand-made windows only: the real games were not at hand.
"""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation.infstreams.task import GameArguments, GameWindow, covers, cut, load_task, load_windows, write_events
from evaluation.predictors.live_memory import LiveMemory
from evaluation.predictors.load import load_live
from evaluation.predictors.predictor import Predictor
from evaluation.predictors.predictor_arguments import PredictorArguments
from evaluation.runner.command import run_task
from evaluation.runner.predictions import prediction, report_predictions, write_predictions
from evaluation.runner.run import FAILED, EvaluationArguments, ask_items, is_first_process
from evaluation.scoring.settings_path import settings_path
from evaluation.tasks.item import Item
from evaluation.tasks.task import Task
from utils.arguments import parse_arguments
from utils.errors import run_command
from utils.fingerprint import digest

SLACK_S = 1  # words are timed less exactly than frames
BASELINE = "gpt-4o-2024-08-06"
NEXT = """Make a baseline, and judge against it:
  python evaluation/livesports3kcc/distributed_generate_caption.py --annotations {windows} --video_dir {videos} \
--api_model {baseline} --output_dir {folder}/captions
  python evaluation/livesports3kcc/llm_judge.py --benchmark infstreams --annotations {windows} --model_id {model} \
--prediction_jsonl {file} --baseline_jsonl {folder}/captions/{baseline}.jsonl --baseline_id {baseline} \
--output_dir {folder}/judges"""


def comment_games(
    games: GameArguments, limit: int | None, task: Task, predictor: Predictor, folder: Path, resume: bool
) -> int:
    """Comment on the games and write what was said in each window; returns the exit status."""
    windows = load_windows(games.windows_path, limit, games.skipped())
    store = ask_items(task, predictor, folder, resume)
    rows = list(store.rows(task.items))
    heard = [hear(window, task.items, rows) for window in windows]
    if is_first_process():
        events, n_heard = folder / "windows.jsonl", sum(error is None for _, error in heard)
        path = settings_path(folder, predictor.name, ".jsonl", digest([task.protocol, store.settings])[:8], n_heard)
        write_predictions(
            path,
            [
                prediction(window.video_id, window.number, window.begin, window.end, said)
                for window, (said, error) in zip(windows, heard, strict=True)
                if error is None
            ],
        )
        write_events(windows, events)
        report_predictions([error for _, error in heard], path)
        names = {"windows": events, "videos": games.video_folder, "folder": folder, "file": path}
        print(NEXT.format(**names, model=predictor.name, baseline=BASELINE))
    return FAILED if any(error for _, error in heard) else 0


def hear(window: GameWindow, items: Sequence[Item], rows: Sequence[dict]) -> tuple[str, str | None]:
    """Speech inside a window, and the error for which it does not count."""
    covering = [row for item, row in zip(items, rows, strict=True) if covers(item, window)]
    error = next((row["error"] for row in covering if row["error"] is not None), None)
    steps = [step for row in covering for step in row["steps"] or ()]
    last_s = max((end_s for _, end_s, _ in steps), default=0.0)
    if error is None and last_s < window.end - SLACK_S:
        error = f"the video of {window.video_id} ends at {last_s:g} s, before its window does at {window.end} s"
    return cut(steps, window), error


def main() -> int:
    """Run the command; returns its exit status."""
    games, model, memory, run = parse_arguments(
        GameArguments, PredictorArguments, LiveMemory, EvaluationArguments, description=__doc__.splitlines()[0]
    )
    work = functools.partial(comment_games, games, run.limit)
    return run_task(load_task, games, (model, memory), run, Path(__file__).parent / "livecc", load_live, work)


if __name__ == "__main__":
    run_command(main)
