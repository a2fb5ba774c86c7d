"""The streaming engine beside what one would do without it, in one run.

    python dev/bench/bench_streaming.py latency                  (a) against generate with a growing cache, nano weights
    python dev/bench/bench_streaming.py latency --shape 0.5B     the same on random weights of the 0.5B shape
    python dev/bench/bench_streaming.py long                     ten hours under the window policy, hour by hour
    python dev/bench/bench_streaming.py host                     (b) our own time in a step, the model answering at once
    python dev/bench/bench_streaming.py sessions                 (c) real-time streams on this machine, batched or not
    python dev/bench/bench_streaming.py threads                  a step on one CPU thread and on all (--shape 0.5B too)
    python dev/bench/bench_streaming.py gpu                      (d) random weights of the 7B shape, beside their floor

Hardware: 2 CPU cores; (d) a CUDA GPU. Time: 5 to 15 minutes each. Prints Markdown tables and writes
OUT/bench_streaming_PART.json; latency also draws OUT/latency_SHAPE.png.
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

Part = Literal["latency", "long", "host", "sessions", "threads", "gpu"]


@dataclass
class BenchArguments:
    """What is measured."""

    part: Part = field(metadata={"help": "latency, long, host, sessions, threads or gpu"})
    shape: Literal["nano", "0.5B"] = field(default="nano", metadata={"help": "latency, threads: whose shape"})
    model_name_or_path: str | None = field(default=None, metadata={"help": "nano weights; default: those shipped"})
    seconds: int | None = field(default=None, metadata={"help": "latency: length of the stream; default 3600 or 300"})
    baseline_seconds: int | None = field(
        default=None, metadata={"help": "latency: where generate stops, for a shorter run; default: at the end"}
    )
    sessions_s: float = field(default=60.0, metadata={"help": "sessions: how long each number of streams runs"})
    output_dir: str = field(default="outputs/bench_streaming", metadata={"help": "tables and plots go here"})


def main() -> None:
    """Run the command."""
    argv = sys.argv[1:]
    if argv and not argv[0].startswith("-"):  # the part may be given without its flag
        argv = ["--part", *argv]
    (arguments,) = parse_arguments(BenchArguments, description=__doc__.splitlines()[0], argv=argv)
    # Loaded only now: --help need not wait for torch.
    from dev.bench.parts.host import bench_host
    from dev.bench.parts.latency import bench_latency
    from dev.bench.parts.long import bench_long
    from dev.bench.parts.sessions import bench_sessions
    from dev.bench.parts.step_floor import bench_gpu
    from dev.bench.parts.threads import bench_threads

    out = Path(arguments.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    benches = {
        "latency": bench_latency,
        "long": bench_long,
        "host": bench_host,
        "sessions": bench_sessions,
        "threads": bench_threads,
        "gpu": bench_gpu,
    }
    rows = benches[arguments.part](arguments, out)
    name = f"{arguments.part}_{arguments.shape}" if arguments.part in ("latency", "threads") else arguments.part
    (out / f"bench_streaming_{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    run_command(main)
