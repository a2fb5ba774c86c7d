"""How fast a large annotation file opens, and what a worker that reads many of its lines costs in memory.

    python -m dev.bench.bench_annotations [--lines 5000000] [--reads 1000000] [--folder /tmp]

One core, no GPU, 4 GB of disk for 5 million lines, about 3 minutes of CPU. Expected: opening under 0.5 s once
indexed, private memory that grows by less than 30 MB, exit status 0. The lines are streams of 20 words; they
are read at random and checked for their number. Memory is the private memory (USS) of a process of its own,
the mapped index included.
"""

import json
import multiprocessing
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from data.samples.annotations import AnnotationFile
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command

OPENING_GOAL_S, MEMORY_GOAL_MB = 0.5, 30


@dataclass
class BenchArguments:
    """Size of the file, and where it is written."""

    lines: int = field(default=5_000_000, metadata={"help": "lines of the file"})
    reads: int = field(default=1_000_000, metadata={"help": "lines that the worker reads, at random"})
    folder: str = field(default="/tmp", metadata={"help": "where the file is made, and removed in the end"})


def main(argv: list[str] | None = None) -> int:
    """Make the file, measure, remove it; 1 when a goal is missed."""
    (arguments,) = parse_arguments(BenchArguments, description=__doc__.splitlines()[0], argv=argv)
    if not sys.platform.startswith("linux"):
        raise UserError(f"{sys.platform}: private memory is read from /proc/self/smaps_rollup; run this on Linux")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "annotations.jsonl"
        write_lines(path, arguments.lines)
        indexing_s, opening_s = timed_open(path), timed_open(path)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            growth_mb, reading_s = pool.apply(read_at_random, (path, arguments.reads))
        size_mb, index_mb = (file.stat().st_size / 1e6 for file in (path, path.with_name(path.name + ".index")))
    print(f"| {arguments.lines:,} lines, {size_mb:,.0f} MB | measured | goal |\n|---|---|---|")
    print(f"| indexing, once | {indexing_s:.1f} s ({size_mb / indexing_s:,.0f} MB/s), {index_mb:.0f} MB | |")
    print(f"| opening, indexed | {opening_s:.4f} s | < {OPENING_GOAL_S} s |")
    print(f"| private memory after {arguments.reads:,} reads | +{growth_mb:.1f} MB | < {MEMORY_GOAL_MB} MB |")
    print(f"| one read, parsed and checked | {1e6 * reading_s / arguments.reads:.0f} us | |")
    return int(opening_s >= OPENING_GOAL_S or growth_mb >= MEMORY_GOAL_MB)


def write_lines(path: Path, n_lines: int) -> None:
    """Write streams of 20 words; the query holds the line's number, and some lines hold wide characters."""
    words = [[round(i * 0.4, 2), round(i * 0.4 + 0.35, 2), f"word{i}"] for i in range(20)]
    speech = json.dumps([{"role": "assistant", "content": [{"type": "text_stream", "text_stream": words}]}])[1:]
    with open(path, "w", encoding="utf-8") as file:
        for i in range(n_lines):
            title = "\u00c9mission \u4f60\u597d" * (i % 7)
            user = '{"role": "user", "content": [{"type": "video", "video": "a.mp4"}, {"type": "text", "text": '
            file.write(f'[{user}"{i}", "title": "{title}"}}]}}, {speech}\n')


def timed_open(path: Path) -> float:
    """Seconds to open the file and read its last sample."""
    started = time.perf_counter()
    file = AnnotationFile(path)
    file[len(file) - 1]
    return time.perf_counter() - started


def read_at_random(path: Path, n_reads: int) -> tuple[float, float]:
    """Growth of this process's private memory in MB, and seconds, over reads spread over the whole file."""
    draw = random.Random(0)
    before_mb = private_mb()
    file = AnnotationFile(path)
    started = time.perf_counter()
    for _ in range(n_reads):
        i = draw.randrange(len(file))
        if file[i].query.text != str(i):
            raise RuntimeError(f"line {i} was read as {file[i].query.text}")
    seconds = time.perf_counter() - started
    return private_mb() - before_mb, seconds


def private_mb() -> float:
    """Memory that only this process has, in MB."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


if __name__ == "__main__":
    run_command(main)
