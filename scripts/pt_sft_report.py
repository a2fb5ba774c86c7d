"""Gather what scripts/nano_pt_sft.sh measured into one report.json, and print it as a table.

    python scripts/pt_sft_report.py --folder outputs/nano_pt_sft

Reads stages/*.json (time of each stage) and scores/MODEL/video.scores.json (evaluation/nano/evaluate.py).
Takes a second.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import json
from dataclasses import dataclass

from utils.arguments import helped, parse_arguments
from utils.errors import run_command
from utils.files import read_json, write_whole

MADE_BY = "bash scripts/nano_pt_sft.sh"
MODELS = {"pt": "pre-trained on captions", "sft": "pre-trained, then SFT", "sft_alone": "SFT alone"}
SHOWN = ("event_f1", "precision", "recall", "team_accuracy", "timing_error_s", "timing_bias_s", "words_per_second")


@dataclass
class PtSftReportArguments:
    """Folder of the run."""

    folder: str = helped("outputs/nano_pt_sft", "folder of the run")


def main() -> None:
    """Run the command."""
    (arguments,) = parse_arguments(PtSftReportArguments, description=__doc__.splitlines()[0])
    folder = Path(arguments.folder)
    stages = {path.stem: read_json(path, MADE_BY) for path in sorted((folder / "stages").glob("*.json"))}
    rows = {}
    for name in MODELS:
        scores = read_json(folder / "scores" / name / "video.scores.json", MADE_BY)
        rows[name] = {key: scores[key] for key in SHOWN} | {"training_cpu_s": stages[f"train_{name}"]["cpu_s"]}
    minutes = sum(stage["wall_s"] for stage in stages.values()) / 60
    report = {"models": rows, "looks_cpu_s": stages["train_looks"]["cpu_s"], "minutes": round(minutes, 1)}
    write_whole(folder / "report.json", json.dumps(report, indent=1) + "\n")
    print("| model | " + " | ".join([*SHOWN, "training_cpu_s"]) + " |\n|" + "---|" * (len(SHOWN) + 2))
    for name, row in rows.items():
        print(f"| {MODELS[name]} | " + " | ".join(f"{value:.3f}" for value in row.values()) + " |")
    print(f"{minutes:.1f} minutes in all; {folder / 'report.json'}")


if __name__ == "__main__":
    run_command(main)
