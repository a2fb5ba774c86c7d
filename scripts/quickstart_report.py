"""Gather what scripts/quickstart.sh measured into one report.json, and print it.

    python scripts/quickstart_report.py --folder outputs/quickstart

Reads stages/*.json (time of each stage), seeing/{video,other_video}.scores.json and blind/noise.scores.json
(evaluation/nano/evaluate.py) and the weights in --model_name_or_path. Takes a second.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import json
import math
from dataclasses import dataclass

from safetensors import safe_open

from utils.arguments import helped, parse_arguments
from utils.errors import run_command
from utils.files import read_json, write_whole

MADE_BY = "bash scripts/quickstart.sh"
COPIED = (
    "n_clips", "n_events", "event_f1", "precision", "recall", "f1_mean_over_kinds", "f1_per_kind",
    "team_accuracy", "timing_error_s", "timing_bias_s", "words_per_second", "zone_words",
    "score_words", "confusion",
)  # fmt: skip


@dataclass
class QuickstartReportArguments:
    """Folders of the run and of its model."""

    folder: str = helped("outputs/quickstart", "folder of the run")
    model_name_or_path: str = helped("outputs/quickstart/model", "folder of the model that sees")


def count_parameters(folder: Path) -> int:
    """Count the numbers in the folder's safetensors files."""
    n = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                n += math.prod(file.get_slice(name).get_shape())
    return n


def make_report(folder: Path, model: Path) -> dict:
    """Gather stages, parameters and scores; the controls under event_f1_blind and event_f1_wrong_video."""
    seeing = read_json(folder / "seeing" / "video.scores.json", MADE_BY)
    stages = {path.stem: read_json(path, MADE_BY) for path in (folder / "stages").glob("*.json")}
    times = {
        name: {
            "minutes": round(stage["wall_s"] / 60, 2),
            "cpu_s": stage["cpu_s"],
            "attempts": stage["attempts"],
        }
        for name, stage in sorted(stages.items(), key=lambda item: item[1]["number"])
    }
    return {
        "parameters": count_parameters(model),
        **{name: seeing[name] for name in COPIED},
        "event_f1_blind": read_json(folder / "blind" / "noise.scores.json", MADE_BY)["event_f1"],
        "event_f1_wrong_video": read_json(folder / "seeing" / "other_video.scores.json", MADE_BY)["event_f1"],
        "stages": times,
        "minutes": round(sum(stage["minutes"] for stage in times.values()), 2),
    }


def _print_numbers(report: dict, path: Path) -> None:
    """Print the main numbers."""
    for name, stage in report["stages"].items():
        again = f"  (attempt {stage['attempts']}; its time only)" if stage["attempts"] > 1 else ""
        print(f"{name:<16} {stage['minutes']:6.2f} min  {stage['cpu_s']:8.1f} CPU s{again}")
    print(f"{'all':<16} {report['minutes']:6.2f} min")
    print(f"event F1 on {report['n_clips']} held-out clips: {report['event_f1']:.3f}", end="")
    print(f" (blind {report['event_f1_blind']:.3f}, wrong video {report['event_f1_wrong_video']:.3f})")
    print(f"mean over kinds {report['f1_mean_over_kinds']:.3f}, team accuracy {report['team_accuracy']:.3f}")
    print(f"written to {path}")


def main() -> None:
    """Run the command."""
    (arguments,) = parse_arguments(QuickstartReportArguments, description=__doc__.split("\n")[0])
    folder = Path(arguments.folder)
    report = make_report(folder, Path(arguments.model_name_or_path))
    path = folder / "report.json"
    write_whole(path, json.dumps(report, indent=1) + "\n")
    _print_numbers(report, path)


if __name__ == "__main__":
    run_command(main)
