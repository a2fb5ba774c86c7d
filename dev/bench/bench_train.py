"""Training's tokens a second and peak memory, ours beside the straightforward recipe, on the same samples.

    python dev/bench/bench_train.py                               nano shape, this machine's CPU
    python dev/bench/bench_train.py --shape 2B --device cuda      random weights, samples of 24k tokens
    python dev/bench/bench_train.py --shape 7B --device cuda --n_layers 8

The recipe was written here, as one writes it with the library: its Trainer, its model, batch 1, the vocabulary head on
every token, the frozen tower inside gradient checkpointing. Batch 1 is no handicap on a CPU: a padded batch of five is
slower. Ours is train.py's trainer with the flags below. Both see the same samples, decoded before, each in its own
trainer's order; each runs in a process of its own. Time: about 3 minutes for nano. Prints a Markdown table and writes
OUTPUT_DIR/bench_train_SHAPE.json.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import json
from dataclasses import dataclass, field
from typing import Literal

from utils.arguments import parse_arguments
from utils.errors import run_command


@dataclass
class BenchArguments:
    """What is trained, and for how long."""

    shape: Literal["nano", "2B", "7B"] = field(default="nano", metadata={"help": "whose shape"})
    device: Literal["cpu", "cuda"] = field(default="cpu", metadata={"help": "where it runs"})
    n_layers: int | None = field(default=None, metadata={"help": "truncated depth, where memory asks for it"})
    n_samples: int = field(default=64, metadata={"help": "samples each side trains on"})
    n_warmup: int = field(default=8, metadata={"help": "samples before the clock starts"})
    max_tokens_per_batch: int | None = field(
        default=None, metadata={"help": "our packing budget; default 4096 for nano, 24576 above"}
    )
    repeats: int = field(default=3, metadata={"help": "runs of each side, in turn"})
    output_dir: str = field(default="outputs/bench_train", metadata={"help": "samples and results go here"})


def main() -> None:
    """Run the command."""
    (arguments,) = parse_arguments(BenchArguments, description=__doc__.splitlines()[0])
    # Loaded only now: --help need not wait for torch.
    from dev.bench.parts.train_sides import compare

    rows = compare(arguments)
    Path(arguments.output_dir, f"bench_train_{arguments.shape}.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
