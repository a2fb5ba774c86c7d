"""Put a trained nano model and two matches of its world into the repository, as demo/cli.py expects them.

    python dev/bench/ship_nano.py --model_name_or_path outputs/quickstart/model

Writes models/nano_checkpoint (bfloat16, 2.4 MB) and demo/sources/match_1.mp4 and match_2.mp4 with the commentator's own
words beside them (match_1.events.json). The matches are of the test split: kit pairs and pitches that no training saw.
Takes a minute on a CPU.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import json
import shutil
import tempfile
from dataclasses import dataclass, field

from data.nano.corpus import CorpusArguments, make_corpus
from models.load import load_checkpoint
from utils.arguments import parse_arguments
from utils.errors import run_command

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class ShipArguments:
    """What is shipped."""

    model_name_or_path: str = field(metadata={"help": "folder of the trained model"})
    root: str = field(default=str(ROOT), metadata={"help": "repository to write to"})
    duration_s: float = field(default=30.0, metadata={"help": "length of a match"})
    seed: int = field(default=7, metadata={"help": "seed of the matches"})


def ship_model(source: str, target: Path) -> None:
    """Write the model in bfloat16, which halves it, with its processor."""
    checkpoint = load_checkpoint(source, device="cpu", dtype="bfloat16")
    shutil.rmtree(target, ignore_errors=True)
    checkpoint.save(target)


def ship_matches(arguments: ShipArguments, target: Path) -> None:
    """Render two matches large enough to watch; their events go beside them."""
    with tempfile.TemporaryDirectory() as folder:
        large = {"duration_s": arguments.duration_s, "width": 560, "fps": 12, "crf": 30, "from_kick_off": True}
        make_corpus(CorpusArguments(folder, n_clips=2, seed=arguments.seed, split="test", num_workers=1, **large))
        target.mkdir(parents=True, exist_ok=True)
        for number, line in enumerate((Path(folder) / "events.jsonl").read_text().splitlines(), 1):
            row = json.loads(line)
            shutil.copy(row["video"], target / f"match_{number}.mp4")
            row["video"] = f"demo/sources/match_{number}.mp4"
            (target / f"match_{number}.events.json").write_text(json.dumps(row, indent=1) + "\n")


def main() -> None:
    """Run the command."""
    (arguments,) = parse_arguments(ShipArguments, description=__doc__.splitlines()[0])
    ship_model(arguments.model_name_or_path, Path(arguments.root) / "models" / "nano_checkpoint")
    ship_matches(arguments, Path(arguments.root) / "demo" / "sources")


if __name__ == "__main__":
    run_command(main)
