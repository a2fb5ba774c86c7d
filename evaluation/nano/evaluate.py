"""Stream held-out matches of the nano world through a model and score what it says.

    python -m evaluation.nano.evaluate --model_name_or_path models/nano_checkpoint \\
        --events outputs/quickstart/test/events.jsonl --output_dir outputs/quickstart/seeing

CPU is enough: two workers comment on about 3 clips of 20 s a second. Writes one row a clip to OUT/VIEW.jsonl as it
comes (run it again after a kill and it continues) and the scores to OUT/VIEW.scores.json. --view noise replaces every
frame by noise, --view other_video shows each clip's frames to the commentary of another: a model that sees must fail.
"""

import hashlib
import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from data.nano.scoring import Commentary, grounding, read_steps, reference, score, shuffled_f1
from data.patches import noise_like
from data.video import read_clip
from data.words import SILENCE, TIMED_TEXT
from models.load import Checkpoint, load_checkpoint
from models.streaming import StreamingSession, StreamOptions, comment, timed_frames
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command


@dataclass
class EvaluateArguments:
    """What is streamed, what is shown, and where the answers go."""

    model_name_or_path: str = field(metadata={"help": "checkpoint folder"})
    events: str = field(metadata={"help": "events.jsonl of data.nano.corpus: the held-out clips and their truth"})
    output_dir: str = field(metadata={"help": "answers and scores go here"})
    view: Literal["video", "noise", "other_video"] = field(
        default="video", metadata={"help": "what the model sees: the clip, noise in its place, or another clip"}
    )
    style: Literal["stream", "caption"] = field(
        default="stream", metadata={"help": "caption: all frames first, then the whole timed commentary as one answer"}
    )
    query: str = field(default="Please describe the video.", metadata={"help": "what the model is asked"})
    max_new_tokens: int = field(default=24, metadata={"help": "tokens of one step"})
    repetition_penalty: float = field(default=1.0, metadata={"help": "1.0: none; lines of a match repeat themselves"})
    limit: int | None = field(default=None, metadata={"help": "only the first N clips"})
    num_workers: int = field(default=0, metadata={"help": "processes of one thread each; 0: one per core"})


@dataclass(frozen=True)
class Job:
    """One clip: its row number, the video shown, and its length."""

    index: int
    video: str
    duration_s: float


def read_rows(events: str, limit: int | None) -> list[dict]:
    """Rows of events.jsonl. Raises UserError where there is no such file."""
    path = Path(events)
    if not path.is_file():
        raise UserError(f"{path}: no such file; make it with python -m data.nano.corpus --split test ...")
    return [json.loads(line) for line in path.read_text().splitlines()][:limit]


def jobs_of(rows: list[dict], view: str) -> list[Job]:
    """A job per clip; under `other_video` each is shown the clip that follows it."""
    shift = 1 if view == "other_video" else 0
    shown = [rows[(i + shift) % len(rows)]["video"] for i in range(len(rows))]
    return [Job(i, video, row["duration_s"]) for i, (video, row) in enumerate(zip(shown, rows, strict=True))]


def answer_key(arguments: EvaluateArguments) -> str:
    """Identifies what decides an answer: weights, clips, view and decoding. A changed setting reuses nothing."""
    digest = hashlib.sha256()
    for path in sorted(Path(arguments.model_name_or_path).glob("*.safetensors")):
        digest.update(path.read_bytes())
    decisive = {k: v for k, v in asdict(arguments).items() if k not in ("output_dir", "limit", "num_workers")}
    digest.update(json.dumps(decisive, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def speak(checkpoint: Checkpoint, job: Job, arguments: EvaluateArguments) -> list[tuple[float, str]]:
    """What the model says of a clip, as (end of step in seconds, text)."""
    clip = read_clip(job.video, 0.0, job.duration_s, limits=checkpoint.limits)
    frames = noise_like(clip.frames, seed=job.index) if arguments.view == "noise" else clip.frames
    options = StreamOptions(
        query=arguments.query,
        max_new_tokens=arguments.max_new_tokens,
        max_answer_tokens=20 * arguments.max_new_tokens,
        repetition_penalty=arguments.repetition_penalty,
    )
    session = StreamingSession(checkpoint, options)
    if arguments.style == "caption":
        return read_timed_text("".join(session.watch(frames, arguments.query)))
    return [(step.end_s, step.text) for step in comment(session, timed_frames(frames))]


def read_timed_text(text: str) -> list[tuple[float, str]]:
    """Lines such as "Time=3.0-4.0s Red pass. ..." -> (4.0, "Red pass."); other lines say nothing about time."""
    found = (TIMED_TEXT.fullmatch(line.strip()) for line in text.splitlines())
    return [(float(m["end"]), m["text"].removesuffix(SILENCE.strip()).strip()) for m in found if m]


_worker: dict = {}


def _start_worker(arguments: EvaluateArguments) -> None:
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(arguments.model_name_or_path, device="cpu", dtype="float32")
    _worker.update(arguments=arguments, checkpoint=checkpoint)


def _work(job: Job) -> tuple[Job, list[tuple[float, str]]]:
    return job, speak(_worker["checkpoint"], job, _worker["arguments"])


def answers(arguments: EvaluateArguments, jobs: list[Job], path: Path) -> dict[int, list]:
    """Steps of every clip: those in `path` under this key, and the missing ones, appended as they come."""
    key, done = answer_key(arguments), {}
    if path.exists():
        whole_lines = path.read_bytes().split(b"\n")[:-1]  # a kill may have cut the last one short
        rows = [json.loads(line) for line in whole_lines]
        done = {row["index"]: row["steps"] for row in rows if row["key"] == key}
        path.write_bytes(b"".join(line + b"\n" for line in whole_lines))
    missing = [job for job in jobs if job.index not in done]
    with path.open("a") as file:
        for job, steps in _run(arguments, missing):
            done[job.index] = steps
            file.write(json.dumps({"key": key, "index": job.index, "video": job.video, "steps": steps}) + "\n")
            file.flush()
    return {job.index: done[job.index] for job in jobs}


def _run(arguments: EvaluateArguments, jobs: list[Job]) -> Iterator[tuple[Job, list]]:
    if not jobs:
        return
    n_workers = min(arguments.num_workers or os.cpu_count() or 1, len(jobs))
    tqdm.set_lock(threading.RLock())  # its default is a semaphore between processes, which outlives a spawned pool
    context = multiprocessing.get_context("spawn")
    with context.Pool(n_workers, _start_worker, (arguments,)) as pool:
        bar = tqdm(pool.imap_unordered(_work, jobs), total=len(jobs), unit="clip", desc=arguments.view)
        yield from bar


def evaluate(arguments: EvaluateArguments) -> dict:
    """Comment on all clips and score them; returns the scores, which are also written."""
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_rows(arguments.events, arguments.limit)
    steps = answers(arguments, jobs_of(rows, arguments.view), folder / f"{arguments.view}.jsonl")
    spoken: list[Commentary] = [read_steps(steps[i], row["duration_s"]) for i, row in enumerate(rows)]
    true = [reference(row) for row in rows]
    scores = {
        **score(spoken, true),
        "event_f1_shuffled": shuffled_f1(spoken, true),
        "zone_words": grounding(spoken, true, "zone"),
        "score_words": grounding(spoken, true, "score"),
        "view": arguments.view,
        "model": arguments.model_name_or_path,
    }
    (folder / f"{arguments.view}.scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    return scores


def main() -> None:
    (arguments,) = parse_arguments(EvaluateArguments, description=__doc__.splitlines()[0])
    scores = evaluate(arguments)
    if sys.stdout.isatty():
        print(
            f"event F1 {scores['event_f1']:.3f} on {scores['n_clips']} clips ({scores['n_events']} events), mean over "
            f"kinds {scores['f1_mean_over_kinds']:.3f}, team accuracy {scores['team_accuracy']:.3f}"
        )
    else:
        print(json.dumps(scores))


if __name__ == "__main__":
    run_command(main)
