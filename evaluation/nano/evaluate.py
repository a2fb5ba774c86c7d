"""Stream held-out matches of the nano world through a model and score what it says.

    python -m evaluation.nano.evaluate --model_name_or_path models/nano_checkpoint \\
        --events outputs/quickstart/test/events.jsonl --output_dir outputs/quickstart/seeing

CPU is enough: two workers comment on about 3 clips of 20 s a second. Answers are kept as they come (run it again after
a kill and it continues); the scores go to OUT/VIEW.scores.json. --view noise replaces every frame by noise, --view
other_video shows each clip's frames to the commentary of another: a model that sees must fail.
"""

import functools
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from data.samples.patches import noise_like
from data.samples.words import SILENCE, TIMED_TEXT
from data.video.clip import VideoFile
from data.video.frame_plan import Clip
from evaluation.nano.scoring import ParsedCommentary, grounding, read_steps, reference, score_commentaries, shuffled_f1
from evaluation.predictors.checkpoint import CheckpointPredictor
from evaluation.predictors.predictor_arguments import model_id
from evaluation.runner.processes import launch
from evaluation.runner.run import ask_items, is_first_process
from evaluation.tasks.item import ClipPlan, Commentary, Item, Written
from evaluation.tasks.task import Task
from models.load import load_checkpoint
from models.streaming.options import DEFAULT_QUERY
from models.streaming.threads import use_threads
from utils.arguments import helped, parse_arguments
from utils.errors import UserError, run_command
from utils.files import write_whole
from utils.fingerprint import checkpoint_fingerprint

LONGEST_CAPTION_STEPS = 20  # a caption may have as many tokens as so many steps


@dataclass
class EvaluateArguments:
    """What is streamed, what is shown, and where the answers go."""

    model_name_or_path: str = field(metadata={"help": "checkpoint folder"})
    events: str = field(
        metadata={"help": "events.jsonl of data.nano.corpus: the held-out clips and their truth", "path": "file"}
    )
    output_dir: str = field(metadata={"help": "answers and scores go here", "path": "output_folder"})
    view: Literal["video", "noise", "other_video"] = helped(
        "video", "what the model sees: the clip, noise in its place, or another clip"
    )
    style: Literal["stream", "caption"] = helped(
        "stream", "caption: all frames first, then the whole timed commentary as one answer"
    )
    query: str = helped(DEFAULT_QUERY, "what the model is asked")
    max_new_tokens: int = helped(24, "tokens of one step", ge=1)
    repetition_penalty: float = helped(1.0, "1.0: none; lines of a match repeat themselves", gt=0)
    limit: int | None = helped(None, "only the first N clips", ge=1)
    num_workers: int = helped(0, "processes of one thread each; 0: one per core")


class ShownPredictor(CheckpointPredictor):
    """Shows the clip, or noise in its place: the same noise for a clip of one name, whatever is in it."""

    view = "video"

    def read(self, plan: ClipPlan, video: VideoFile | None) -> Clip:
        clip = super().read(plan, video)
        if self.view != "noise":
            return clip
        return replace(clip, frames=noise_like(clip.frames, seed=int(Path(plan.video).stem)))


def read_event_rows(events: str, limit: int | None = None) -> list[dict]:
    """Rows of events.jsonl. Raises UserError where there is no such file."""
    path = Path(events)
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it with python -m data.nano.corpus --split test ...")
    return [json.loads(line) for line in path.read_text().splitlines()][:limit]


def load_task(arguments: EvaluateArguments, rows: Sequence[dict]) -> Task:
    """An item per clip; under `other_video` each is shown the clip that follows it."""
    shift = 1 if arguments.view == "other_video" else 0
    asked = Commentary(arguments.query, arguments.max_new_tokens, arguments.repetition_penalty)
    if arguments.style == "caption":
        asked = Written(arguments.query, LONGEST_CAPTION_STEPS * arguments.max_new_tokens)
    items = []
    for i, row in enumerate(rows):
        shown = rows[(i + shift) % len(rows)]
        plan = ClipPlan(shown["video"], 0.0, row["duration_s"], rule="stream")
        items.append(Item(f"{i:06d}", f"{i:06d}", asked, "", plan, setting=arguments.view))
    return Task("nano", arguments.style, items, None)


def load_predictor(arguments: EvaluateArguments) -> ShownPredictor:
    """Load the model on a CPU in float32, as for all recorded numbers of the nano world."""
    name = arguments.model_name_or_path
    checkpoint = load_checkpoint(name, device="cpu", dtype="float32")
    use_threads(checkpoint.model)
    predictor = ShownPredictor(checkpoint, model_id(name), checkpoint_fingerprint(checkpoint.folder))
    predictor.view = arguments.view
    return predictor


def steps_of(row: dict) -> list[tuple[float, str]]:
    """Steps of a stored row: (end of step in seconds, text)."""
    if row["steps"] is None:
        return read_timed_text(row["response"])
    return [(end_s, text) for _, end_s, text in row["steps"]]


def read_timed_text(text: str) -> list[tuple[float, str]]:
    """Lines such as "Time=3.0-4.0s Red pass. ..." -> (4.0, "Red pass."); other lines say nothing about time."""
    found = (TIMED_TEXT.fullmatch(line.strip()) for line in text.splitlines())
    return [(float(m["end"]), m["text"].removesuffix(SILENCE.strip()).strip()) for m in found if m]


def evaluate_clips(arguments: EvaluateArguments) -> int:
    """Comment on all clips, in several processes; the first one scores them. Returns the exit status."""
    read_event_rows(arguments.events, 1)  # a missing file is said before processes start
    return launch(functools.partial(_work, arguments), arguments.num_workers or os.cpu_count() or 1)


def _work(arguments: EvaluateArguments, _: str | None) -> int:
    rows = read_event_rows(arguments.events, arguments.limit)
    task, folder = load_task(arguments, rows), Path(arguments.output_dir)
    answered = list(ask_items(task, load_predictor(arguments), folder).rows(task.items))
    failed = [row["error"] for row in answered if row["error"] is not None]
    if failed:
        raise UserError(f"{len(failed)} of {len(rows)} clips have no answer, so there is no score: {failed[0]}")
    if is_first_process():
        scores = score_rows(arguments, rows, answered)
        write_whole(folder / f"{arguments.view}.scores.json", json.dumps(scores, indent=1) + "\n")
        print_scores(scores)
    return 0


def score_rows(arguments: EvaluateArguments, rows: Sequence[dict], answered: Sequence[dict]) -> dict:
    """All scores of the answers to rows of events.jsonl."""
    spoken: list[ParsedCommentary] = [
        read_steps(steps_of(said), row["duration_s"]) for said, row in zip(answered, rows, strict=True)
    ]
    true = [reference(row) for row in rows]
    return {
        **score_commentaries(spoken, true),
        "event_f1_shuffled": shuffled_f1(spoken, true),
        "zone_words": grounding(spoken, true, "zone"),
        "score_words": grounding(spoken, true, "score"),
        "view": arguments.view,
        "model": arguments.model_name_or_path,
    }


def print_scores(scores: dict) -> None:
    """Print the headline to a terminal, all scores as JSON elsewhere."""
    if not sys.stdout.isatty():
        print(json.dumps(scores))
        return
    print(
        f"event F1 {scores['event_f1']:.3f} on {scores['n_clips']} clips ({scores['n_events']} events), mean over "
        f"kinds {scores['f1_mean_over_kinds']:.3f}, team accuracy {scores['team_accuracy']:.3f}"
    )


def main() -> int:
    """Run the command; returns its exit status."""
    (arguments,) = parse_arguments(EvaluateArguments, description=__doc__.splitlines()[0])
    return evaluate_clips(arguments)


if __name__ == "__main__":
    run_command(main)
