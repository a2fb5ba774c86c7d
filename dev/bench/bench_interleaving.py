"""The method's own claim at nano scale: words interleaved with frames against all frames first, at equal compute.

    python dev/bench/bench_interleaving.py --init outputs/quickstart/looks --train outputs/quickstart/train \\
        --test outputs/quickstart/test --cpu_s 300

Both start from one checkpoint that has learnt single looks only. One learns streams; the other learns, from the same
clips, to write the whole commentary as one answer after all frames, a line "Time=3.0-4.0s words ..." for each second
with words. Steps are set so that both train for --cpu_s CPU-seconds, measured on a short run of each. Hardware: 2 CPU
cores. Time: about --cpu_s seconds of wall time for both, and 5 minutes. Prints a Markdown table.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import json
from dataclasses import dataclass, field

from data.samples.annotations import AnnotationFile
from data.samples.words import SILENCE, Word, step_label, step_slices, step_window, words_by_step
from data.video.frame_plan import FPS
from dev.bench.bench_nano import module, shortened, train
from utils.arguments import parse_arguments
from utils.errors import run_command

TRIAL_STEPS = (20, 60)  # the difference of their times is free of start-up


@dataclass
class InterleavingArguments:
    """What is compared."""

    init: str = field(default="outputs/quickstart/looks", metadata={"help": "checkpoint that both start from"})
    train: str = field(default="outputs/quickstart/train", metadata={"help": "corpus of the train split"})
    test: str = field(default="outputs/quickstart/test", metadata={"help": "corpus of the test split"})
    output_dir: str = field(default="outputs/bench_interleaving", metadata={"help": "models and scores go here"})
    cpu_s: float = field(default=300.0, metadata={"help": "CPU-seconds of training for each of the two"})


def caption_sample(messages: list) -> list:
    """A stream as a question about a whole video, its answer the timed commentary."""
    video, text = messages[0]["content"]
    n_frames = int((video["video_end"] - video["video_start"]) * FPS) // 2 * 2
    slices = step_slices(n_frames)
    texts, _ = words_by_step(
        [Word(*word) for word in messages[1]["content"][0]["text_stream"]], [(cut.stop - 1) / FPS for cut in slices]
    )
    lines = [f"{step_label(*step_window(i))} {said}" for i, said in enumerate(texts) if said != SILENCE]
    question = {"role": "user", "content": [video, {"type": "text", "text": text["text"]}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": "\n".join(lines)}]}
    return [question, answer, *messages[2:]]


def write_captions(corpus: Path, folder: Path) -> None:
    """The corpus's commentaries as captions, under the file name that scripts/train_nano.sh reads."""
    file = AnnotationFile(corpus / "commentary.jsonl")
    samples = (caption_sample(json.loads(file.line(i))) for i in range(len(file)))
    (folder / "commentary.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))


def seconds_per_step(init: Path, data: Path, out: Path) -> float:
    """CPU-seconds of one step, from two short runs."""
    short, long = (train("streams", init, data, out / f"trial_{n}", *shortened(n)) for n in TRIAL_STEPS)
    return (long - short) / (TRIAL_STEPS[1] - TRIAL_STEPS[0])


def compare(arguments: InterleavingArguments, style: str, data: Path, root: Path) -> dict:
    """Train one of the two and score it."""
    out, init = root / style, Path(arguments.init).absolute()
    if not (out / "steps").exists():
        out.mkdir(parents=True, exist_ok=True)
        (out / "steps").write_text(str(round(arguments.cpu_s / seconds_per_step(init, data, out))))
    steps = int((out / "steps").read_text())
    cpu_s = train("streams", init, data, out / "model", *shortened(steps))
    if not (out / "video.scores.json").exists():
        events = Path(arguments.test).absolute() / "events.jsonl"
        module("evaluation.nano.evaluate", model_name_or_path=out / "model", events=events, output_dir=out, style=style)
    scores = json.loads((out / "video.scores.json").read_text())
    return {"style": style, "steps": steps, "cpu_s": cpu_s, **scores}


def main() -> None:
    """Run the command."""
    (arguments,) = parse_arguments(InterleavingArguments, description=__doc__.splitlines()[0])
    root, corpus = Path(arguments.output_dir).absolute(), Path(arguments.train).absolute()
    captions = root / "captions"
    captions.mkdir(parents=True, exist_ok=True)
    write_captions(corpus, captions)
    rows = [compare(arguments, "stream", corpus, root), compare(arguments, "caption", captions, root)]
    columns = ("steps", "cpu_s", "event_f1", "precision", "recall", "f1_mean_over_kinds", "team_accuracy")
    print("| training |", " | ".join(columns), "|")
    print("|---" * (len(columns) + 1) + "|")
    for entry in rows:
        print("|", entry["style"], "|", " | ".join(f"{entry[key]:.3g}" for key in columns), "|")
    (root / "bench_interleaving.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
