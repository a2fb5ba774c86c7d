"""The nano model's scores over several seeds, beside a blind model of equal compute and the wrong video.

    python dev/bench/bench_nano.py --train outputs/quickstart/train --test outputs/quickstart/test --seeds 0 1 2

Hardware: 2 CPU cores. Time: about 12 minutes a seed, and as long for the blind model. Goes on where it was stopped.
Prints a Markdown table, median and range of event F1 over the seeds, and the processor, on which they depend; writes
OUT/bench_nano.json: one row a model, with the CPU-seconds of its training.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import json
import platform
import statistics
import subprocess
from dataclasses import dataclass, field

from utils.arguments import parse_arguments
from utils.errors import UserError, run_command

COLUMNS = ("event_f1", "f1_mean_over_kinds", "team_accuracy", "zone_gain", "score_gain", "timing_error_s", "cpu_s")


@dataclass
class BenchArguments:
    """What is trained and scored."""

    train: str = field(default="outputs/quickstart/train", metadata={"help": "corpus of the train split"})
    test: str = field(default="outputs/quickstart/test", metadata={"help": "corpus of the test split"})
    output_dir: str = field(default="outputs/bench_nano", metadata={"help": "models and scores go here"})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "seeds of weights and data order"})
    blind: bool = field(default=True, metadata={"help": "also train a blind model, as long as one that sees"})
    looks_steps: int | None = field(default=None, metadata={"help": "shorter first stage, for a trial"})
    streams_steps: int | None = field(default=None, metadata={"help": "shorter second stage, for a trial"})


def run(*command: str | Path) -> None:
    """Run a command from the repository's root; UserError where it fails."""
    root = Path(__file__).resolve().parents[2]
    words = [str(word) for word in command]
    print("$", " ".join(words), flush=True)
    if status := subprocess.run(words, cwd=root).returncode:
        raise UserError(f"{' '.join(words[:4])} ... ended with status {status}; the same command goes on from there")


def module(name: str, **flags: object) -> None:
    """Run `python -m name --flag value ...`."""
    run(sys.executable, "-m", name, *(word for flag, value in flags.items() for word in (f"--{flag}", value)))


def train(stage: str, init: Path, data: Path, out: Path, *flags: str) -> float:
    """Train one stage unless it is done; return the CPU-seconds it took."""
    summary = out / "train_summary.json"
    if not summary.exists():
        run("bash", "scripts/train_nano.sh", stage, init, data, out, *flags)
    return json.loads(summary.read_text())["cpu_seconds"]


def shortened(steps: int | None) -> list[str]:
    """Flags of a stage of `steps` steps whose second half decays; none for the recipe's own length."""
    return (
        ["--max_steps", str(steps), "--lr_scheduler_kwargs", json.dumps({"num_decay_steps": steps // 2})]
        if steps
        else []
    )


def train_model(arguments: BenchArguments, out: Path, seed: int, *flags: str) -> float:
    """Both stages from fresh weights; returns the CPU-seconds of their training."""
    data = Path(arguments.train).absolute()
    if not (out / "init" / "config.json").exists():
        module("models.nano", output_dir=out / "init", seed=seed)
    flags = ("--seed", str(seed), *flags)
    looks, streams = shortened(arguments.looks_steps), shortened(arguments.streams_steps)
    cpu_s = train("looks", out / "init", data, out / "looks", *flags, *looks)
    return cpu_s + train("streams", out / "looks", data, out / "model", *flags, *streams)


def evaluate(arguments: BenchArguments, out: Path, view: str, **flags: object) -> dict:
    """Scores of one model under one view."""
    scores = out / f"{view}.scores.json"
    if not scores.exists():
        events = Path(arguments.test).absolute() / "events.jsonl"
        module(
            "evaluation.nano.evaluate",
            model_name_or_path=out / "model",
            events=events,
            output_dir=out,
            view=view,
            **flags,
        )
    return json.loads(scores.read_text())


def row(name: str, scores: dict, cpu_s: float) -> dict:
    """A table row."""
    gains = {"zone_gain": scores["zone_words"]["gain"], "score_gain": scores["score_words"]["gain"]}
    return {"model": name, **{key: scores.get(key) for key in COLUMNS}, **gains, "cpu_s": cpu_s}


def show(rows: list[dict]) -> None:
    """Print the rows as a Markdown table."""
    print("| model |", " | ".join(COLUMNS), "|")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for entry in rows:
        cells = ("" if entry[key] is None else f"{entry[key]:.3g}" for key in COLUMNS)
        print("|", entry["model"], "|", " | ".join(cells), "|")


def processor() -> str:
    """This machine's processor: the same seed ends elsewhere on another one."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    """Run the command."""
    (arguments,) = parse_arguments(BenchArguments, description=__doc__.splitlines()[0])
    root = Path(arguments.output_dir).absolute()
    rows = []
    for seed in arguments.seeds:
        out = root / f"seed_{seed}"
        cpu_s = train_model(arguments, out, seed)
        rows.append(row(f"seed {seed}", evaluate(arguments, out, "video"), cpu_s))
        rows.append(row(f"seed {seed}, wrong video", evaluate(arguments, out, "other_video"), cpu_s))
    if arguments.blind:
        cpu_s = train_model(arguments, root / "blind", 0, "--blind", "True")
        rows.append(row("blind, equal compute", evaluate(arguments, root / "blind", "noise"), cpu_s))
    seeing = [
        entry["event_f1"] for entry in rows if entry["model"].startswith("seed") and "wrong" not in entry["model"]
    ]
    show(rows)
    if len(seeing) > 1:
        middle, spread = statistics.median(seeing), f"{min(seeing):.3f} to {max(seeing):.3f}"
        print(f"\nevent F1 over {len(seeing)} seeds on {processor()}: median {middle:.3f}, {spread}")
    (root / "bench_nano.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
