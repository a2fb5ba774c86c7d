"""Text stages of data production: clips a second and core beside the published logic, memory, and what 5 million cost.

    python dev/bench/bench_production.py --transcripts 100000 --largest 1000000 --folder outputs/bench_production

Makes synthetic captioned videos (40 to --longest_s seconds, about two words a second), takes them through
metadata_filter, pretrain_to_clips and to_conversation with their offsets, once by the published logic
(dev/bench/parts/published_production.py) and once by data.production.run on one core, each in a process of its own;
compares the clips (videos, windows, words and context are equal, times within a millisecond), and measures CPU seconds
and peak memory. Ours also keeps the result of every stage, every rejected
word, and counts. Then ours again over more and more transcripts: memory must not grow.

Hardware: one CPU core; 30 GB of disk for a million transcripts. Time: 6 minutes for 100,000, 15 more for a million.
Expected: JSON with clips a CPU second of both, their ratio, and the peak memory at each size.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # runs from anywhere without PYTHONPATH
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dev.bench.parts.published_production import produce
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command

ROOT = Path(__file__).resolve().parents[2]
N_BODIES = 2000  # different transcripts; the others repeat their words under another name
WORDS = 600
GPUS, CORES = 8, 96  # of a node
TIME_S = 0.001 + 1e-9  # how far times may lie apart: the two sides round sums of other order to milliseconds
CONFIG = """
inputs: {{jsonl_input: {{paths: ["{videos}"]}}}}
stages: [metadata_filter, pretrain_to_clips, to_conversation]
output: {{name: train}}
shard_size: 500
"""


@dataclass
class BenchArguments:
    """How many, and where."""

    transcripts: int = field(default=100_000, metadata={"help": "transcripts that both sides work on"})
    largest: int = field(default=0, metadata={"help": "transcripts of the last run for memory; 0: none"})
    longest_s: float = field(default=140.0, metadata={"help": "longest video in seconds; the filter takes up to 600"})
    repeats: int = field(default=3, metadata={"help": "runs of each side, in turns; the quickest counts"})
    folder: Path = field(
        default=Path("outputs/bench_production"), metadata={"help": "where files are made and deleted"}
    )
    lm_loss: float = field(
        default=0.0, metadata={"help": "clips a second and GPU, as dev/bench/bench_lm_loss.py measures"}
    )
    talking_head: float = field(default=0.0, metadata={"help": "clips a second and GPU of distributed_lmm4asd"})
    side: str = field(default="", metadata={"help": "used by the script itself: published"})


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    (arguments,) = parse_arguments(BenchArguments, description=__doc__.splitlines()[0], argv=argv)
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.side == "published":
        produce(folder / f"{arguments.transcripts}.jsonl", folder / "published")
        return
    result = {"load": os.getloadavg()[0], "transcripts": arguments.transcripts}
    videos = make_transcripts(folder / f"{arguments.transcripts}.jsonl", arguments.transcripts, arguments.longest_s)
    runs = {"published": [], "ours": []}
    for _ in range(arguments.repeats):
        runs["published"].append(published(folder, arguments.transcripts))
        runs["ours"].append(ours(folder, videos))
        result["same"] = compare(folder / "published" / "train.jsonl", folder / "ours" / "train_with_seeks.jsonl")
        for name in runs:
            shutil.rmtree(folder / name)
    result |= {name: min(measured, key=lambda m: m["cpu_s"]) for name, measured in runs.items()}
    result["ratio"] = round(result["published"]["cpu_s"] / result["ours"]["cpu_s"], 2)
    sizes = [n for n in (10_000, 100_000, arguments.largest) if n and n <= arguments.largest]
    result["memory"] = {n: memory_of(folder, n, arguments.longest_s) for n in dict.fromkeys(sizes)}
    result["five_million_clips"] = {
        f"{nodes} node{'s' if nodes > 1 else ''}": hours(arguments, result["ours"]["clips_per_cpu_s"], nodes)
        for nodes in (1, 10)
    }
    print(json.dumps(result, indent=1))


def hours(arguments: BenchArguments, clips_per_cpu_s: float, nodes: int) -> dict[str, float]:
    """Hours that 5 million clips take each stage whose rate is known, on nodes of 8 GPUs and 96 cores."""
    rates = {
        "text stages": clips_per_cpu_s * CORES * nodes,
        "lm_loss": arguments.lm_loss * GPUS * nodes,
        "distributed_lmm4asd": arguments.talking_head * GPUS * nodes,
    }
    return {name: round(5e6 / rate / 3600, 3) for name, rate in rates.items() if rate}


def make_transcripts(path: Path, n: int, longest_s: float) -> Path:
    """Captioned videos as JSON lines."""
    rng = random.Random(0)
    words = [f"word{i}" for i in range(WORDS)]
    bodies = [json.dumps(_body(rng, words, longest_s))[1:] for _ in range(min(n, N_BODIES))]
    with path.open("w") as file:
        for i in range(n):
            file.write(f'{{"id": "v{i:07d}", "video": "videos/v{i:07d}.mp4", {bodies[i % len(bodies)]}\n')
    return path


def _body(rng: random.Random, words: list[str], longest_s: float) -> dict:
    at_s, captions, end_s = rng.uniform(0, 5), [], rng.uniform(40, longest_s)
    while at_s < end_s:
        n = rng.randint(3, 9)
        length_s = n / rng.uniform(1.5, 3.5)
        text = "[Music]" if rng.random() < 0.03 else " ".join(rng.choices(words, k=n))
        captions.append([round(at_s, 3), round(at_s + length_s, 3), text])
        at_s += length_s + (rng.uniform(3.5, 10) if rng.random() < 0.04 else 0)
    known = {"title": "A title", "category": "Sports", "language": "en", "height": 720, "channel": "c"}
    return {**known, "duration_s": round(at_s + 0.01, 2), "captions": captions}


def published(folder: Path, n: int) -> dict:
    """The published logic in its own process."""
    (folder / "published").mkdir(exist_ok=True)
    words = [__file__, "--side", "published", "--transcripts", str(n), "--folder", str(folder)]
    measured = measure([sys.executable, *words])
    with (folder / "published" / "train.jsonl").open("rb") as lines:
        n_clips = sum(1 for _ in lines) - 1
    return {**measured, "clips": n_clips, "clips_per_cpu_s": round(n_clips / measured["cpu_s"])}


def ours(folder: Path, videos: Path) -> dict:
    """The run on one core."""
    config, output = folder / "config.yaml", folder / "ours"
    config.write_text(CONFIG.format(videos=videos))
    flags = ["--output_dir", str(output), "--num_workers", "1", "--no_report"]
    measured = measure([sys.executable, "-m", "data.production.run", str(config), *flags])
    n_clips = json.loads((output / "work" / "output.json").read_text())["files"]["train_with_seeks.jsonl"]
    return {**measured, "clips": n_clips, "clips_per_cpu_s": round(n_clips / measured["cpu_s"])}


def compare(published: Path, ours: Path) -> dict:
    """Compare two training files, clip by clip. Raises UserError where videos, words, context, or a time by over TIME_S
    differ; returns how many clips and words there are, the share of words of which a time is not quite equal, and how
    many clips are."""
    n_clips = n_words = n_moved = n_equal = 0
    with published.open(encoding="utf-8") as theirs, ours.open(encoding="utf-8") as own:
        for line, other in zip(theirs, own, strict=True):
            if line.startswith("[0"):  # the line of offsets
                continue
            n_clips += 1
            (facts, words), (other_facts, other_words) = (_parts_of(json.loads(text)) for text in (line, other))
            texts = [[word[2] for word in side] for side in (words, other_words)]
            times = list(zip(_times(words), _times(other_words), strict=False))
            if facts != other_facts or texts[0] != texts[1] or any(abs(a - b) > TIME_S for a, b in times):
                raise UserError(f"clip {n_clips} of {published} and {ours} differs:\n{line[:300]}\n{other[:300]}")
            n_words += len(words) - 1
            n_moved += sum(a != b for a, b in zip(words[:-1], other_words[:-1], strict=True))
            n_equal += words == other_words
    moved = round(n_moved / max(1, n_words), 4)
    return {"clips": n_clips, "words": n_words, "words_1_ms_off": moved, "clips_equal": n_equal}


def _parts_of(sample: list) -> tuple[list, list]:
    """What a training sample says of its clip, and its words, with its window as one more."""
    (video, context), (said,) = (message["content"] for message in sample)
    window = [video["video_start"], video["video_end"], ""]
    facts = [video["video"], context["text"], context["previous"], context["title"], context["category"]]
    return facts, [*said["text_stream"], window]


def _times(words: list) -> list[float]:
    return [time_s for word in words for time_s in word[:2]]


def memory_of(folder: Path, n: int, longest_s: float) -> dict:
    """A run over n transcripts; the files are deleted."""
    videos = make_transcripts(folder / f"memory_{n}.jsonl", n, longest_s)
    measured = ours(folder, videos)
    shutil.rmtree(folder / "ours")
    for path in folder.glob(f"memory_{n}.jsonl*"):
        path.unlink()
    return measured


def measure(words: list[str]) -> dict:
    """CPU seconds, wall seconds and peak memory of a command."""
    started = time.monotonic()
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise UserError(f"{words} ended with {status}")
    return {
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "wall_s": round(time.monotonic() - started, 1),
        "peak_mb": round(usage.ru_maxrss / 1024),
    }


if __name__ == "__main__":
    run_command(main)
