"""Comment a match of the nano world as it plays, beside what its own commentator said of the true events.

    python scripts/watch_match.py --model_name_or_path models/nano_checkpoint --events FOLDER/events.jsonl

FOLDER is made by `python -m data.nano.corpus`. Hardware: any CPU. Takes as long as the match plays (20 s), or
about 2 s with --as_fast_as_possible. Prints one line a step, and at the end how many events were right.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import json
from dataclasses import dataclass, field

import transformers

from data.video.live import live_frames
from evaluation.nano.scoring import ParsedCommentary, kind_and_team, match, read_steps, reference, reference_steps
from models.load import load_checkpoint
from models.streaming.options import StreamOptions
from models.streaming.session import Clock, Step, StreamingSession, comment
from models.streaming.threads import use_threads
from utils.arguments import helped, parse_arguments
from utils.errors import UserError, run_command


@dataclass
class WatchArguments:
    """Model, clip and decoding."""

    model_name_or_path: str = field(metadata={"help": "checkpoint folder"})
    events: str = field(metadata={"help": "events.jsonl of a corpus: the clips and their truth"})
    index: int = helped(0, "which clip, counted from 0")
    as_fast_as_possible: bool = helped(False, "do not wait for the match's clock")
    repetition_penalty: float = helped(1.0, "1.0: none; lines of a match repeat")
    max_new_tokens: int = helped(24, "tokens of one step")


def read_row(arguments: WatchArguments) -> dict:
    """Read the clip's row of events.jsonl. Raises UserError where it is not there."""
    path = Path(arguments.events)
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it with python -m data.nano.corpus --split test ...")
    lines = path.read_text(encoding="utf-8").splitlines()
    if not 0 <= arguments.index < len(lines):
        raise UserError(f"--index {arguments.index}: {path} has clips 0 to {len(lines) - 1}")
    return json.loads(lines[arguments.index])


def _print_step(step: Step, true: str) -> None:
    """Print one line: when, what the model said, what the commentator said."""
    print(f"{step.start_s:5.1f}-{step.end_s:4.1f} s  {step.text:<46}  {true}", flush=True)


def watch(arguments: WatchArguments) -> ParsedCommentary:
    """Stream the clip through the model, printing as it goes; returns what was said."""
    row = read_row(arguments)
    transformers.utils.logging.disable_progress_bar()
    checkpoint = load_checkpoint(arguments.model_name_or_path)
    use_threads(checkpoint.model)
    options = StreamOptions(max_new_tokens=arguments.max_new_tokens, repetition_penalty=arguments.repetition_penalty)
    frames = live_frames(row["video"], limits=checkpoint.limits)
    true, said = dict(reference_steps(row)), []
    print(f"{row['video']}: {' against '.join(row['kits'])}")
    print(f"{'':13}  {'the model':<46}  the match's own commentator")
    clock = None if arguments.as_fast_as_possible else Clock()
    for step in comment(StreamingSession(checkpoint, options), frames, clock):
        _print_step(step, true.get(step.end_s, ""))
        said.append((step.end_s, step.text))
    ours, theirs = read_steps(said, row["duration_s"]), reference(row)
    n_right = len(match(ours.events, theirs.events, kind_and_team))
    print(f"{n_right} of {len(theirs.events)} events said right within 2 s; {len(ours.events)} said")
    return ours


def main() -> None:
    """Run the command."""
    (arguments,) = parse_arguments(WatchArguments, description=__doc__.split("\n")[0])
    watch(arguments)


if __name__ == "__main__":
    run_command(main)
