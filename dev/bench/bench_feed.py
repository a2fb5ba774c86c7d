"""How fast one core feeds training: samples a second from decoding, from the decode cache and from the vision cache.

    python dev/bench/bench_feed.py                                    (--clip_s 10 --repeats 1 for a look)

One node of 8 GPUs takes about 2 samples of 24k visual tokens a second. A made h264 clip (--clip_s seconds of
--size, 30 fps) is read as training reads it, up to the patches or features of one sample, on one thread:

    decoding        the video is decoded and resized each time
    decode cache    frames come from --decode_cache; cutting patches is what is left
    vision cache    features of --hidden values in bfloat16 come from --vision_cache; nothing is decoded or encoded.
                    Their values are made up here: what is read is bytes

Before that, the cache's frames are compared with the decoded ones; all sides were written here.

"first" is the sample that fills a cache, the decoding included. The caches are read from memory where the system still
has them; a disk of N GB/s gives at most N / (GB a sample) samples a second, which the last column helps to judge. The
load is that of the machine while it was measured; CPU seconds are disturbed less by it than wall seconds.

Hardware: one CPU core, 2 GB of memory, about 1 GB of disk, no GPU. Time: about 6 minutes, most of it to make the clip,
kept in --folder. Result: a Markdown table.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # runs from anywhere without PYTHONPATH
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from data.samples.patches import TEMPORAL, cut_patches, grid_tokens
from data.samples.vision_cache import VisionCache
from data.samples.visual_parts import VisualPart
from data.video.clip import read_clip
from data.video.decode_cache import DecodeCache, clip_request
from data.video.frame_plan import Clip, VideoLimits
from dev.bench.bench_data import FPS, make_clip
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command

NEEDED = 2.0  # samples a second of a node of 8 GPUs


@dataclass
class FeedArguments:
    """What is read, and how often."""

    clip_s: int = field(default=240, metadata={"help": "length of the clip in seconds"})
    size: str = field(default="1280x720", metadata={"help": "width x height of the clip"})
    hidden: int = field(default=3584, metadata={"help": "values of a visual token's features (3584: 7B, 1536: 2B)"})
    repeats: int = field(default=3, metadata={"help": "how often the sample is read from each place"})
    folder: str | None = field(default=None, metadata={"help": "where clip and caches are kept; default: thrown away"})


@dataclass(frozen=True)
class Timing:
    """Seconds of reading one sample, and the bytes read for it."""

    wall_s: float
    cpu_s: float
    n_bytes: int


def main(argv: list[str] | None = None) -> None:
    """Make the clip, read it from each place, print a table."""
    (arguments,) = parse_arguments(FeedArguments, description=__doc__.partition("\n")[0], argv=argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        clip = _clip(folder, arguments)
        n_tokens, readers = _readers(clip, folder, arguments.hidden)
        print(
            f"{arguments.clip_s} s of {arguments.size}, {n_tokens} visual tokens a sample, {arguments.hidden} values "
            f"each; one thread, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before\n"
        )
        print("| from | s wall | s CPU | samples a second and core | cores for 2 a second | GB a sample |")
        print("|---|---|---|---|---|---|")
        for name, read in readers.items():
            for part, timing in _measure(read, arguments.repeats, first=name != "decoding"):
                rate = 1 / timing.cpu_s
                print(
                    f"| {name}{part} | {timing.wall_s:.3f} | {timing.cpu_s:.3f} | {rate:.2f} | {NEEDED / rate:.1f} | "
                    f"{timing.n_bytes / 1e9:.3f} |",
                    flush=True,
                )
        print(f"\nload {os.getloadavg()[0]:.1f} after")


def _readers(clip: Path, folder: Path, hidden: int) -> tuple[int, dict[str, Callable[[], int]]]:
    """Visual tokens of the sample, and by name what reads it once and returns the bytes that it took from disk."""
    limits = VideoLimits()
    first = read_clip(clip, limits=limits)
    _, grid_thw = cut_patches(first.frames)
    frames_bytes, n_tokens = first.frames.nbytes, first.frames.shape[0] // TEMPORAL * _tokens(grid_thw)
    decoded = DecodeCache(folder / "decode_cache")
    kept = VisionCache(folder / "vision_cache", tower="made up", dtype=torch.bfloat16, hidden=hidden)
    request = clip_request(None, None, limits, "stream", "grid")
    check_the_same(clip, first, folder, limits)

    def from_file() -> int:
        cut_patches(read_clip(clip, limits=limits).frames)
        return clip.stat().st_size

    def from_decode_cache() -> int:
        cut_patches(decoded.read_clip(clip, limits=limits).frames)
        return frames_bytes

    def from_vision_cache() -> int:
        made_of = kept.made_of(clip, request)
        found = kept.find(made_of)
        if found is None:
            times_s = tuple(read_clip(clip, limits=limits).times_s.tolist())
            part = VisualPart(grid_thw, False, torch.bfloat16, made_of, times_s)
            kept.store([part], torch.randn(n_tokens, hidden).to(torch.bfloat16))
        elif found.features(grid_thw[0]) is None:
            raise UserError(f"{folder}: the vision cache there is damaged; remove it")
        return n_tokens * kept.row_bytes

    return n_tokens, {"decoding": from_file, "decode cache": from_decode_cache, "vision cache": from_vision_cache}


def check_the_same(path: Path, decoded: Clip, folder: Path, limits: VideoLimits) -> None:
    """Raises UserError where the decode cache, filled and read, gives other frames or times than decoding."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        filled = DecodeCache(place)
        filled.read_clip(path, limits=limits)
        kept = filled.read_clip(path, limits=limits)
        if not (torch.equal(kept.frames, decoded.frames) and (kept.times_s == decoded.times_s).all()):
            raise UserError(f"{path}: the decode cache gives other frames than decoding")


def _tokens(grid_thw: tuple[int, int, int]) -> int:
    """Visual tokens of one temporal patch."""
    return grid_tokens((1, *grid_thw[1:]))


def _measure(read: Callable[[], int], repeats: int, first: bool) -> Iterator[tuple[str, Timing]]:
    """The first reading where it is one of its own, and the median of the others."""
    if first:
        yield ", first", _timed(read)
    timings = [_timed(read) for _ in range(repeats)]
    wall_s, cpu_s = (statistics.median(getattr(t, name) for t in timings) for name in ("wall_s", "cpu_s"))
    yield "", Timing(wall_s, cpu_s, timings[0].n_bytes)


def _timed(read: Callable[[], int]) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    n_bytes = read()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu, n_bytes)


def _clip(folder: Path, arguments: FeedArguments) -> Path:
    """The made clip, kept in the folder."""
    try:
        width, height = map(int, arguments.size.split("x"))
    except ValueError:
        raise UserError(f"--size {arguments.size!r}: give width x height in pixels, such as 1280x720") from None
    if min(width, height) < 64 or width % 2 or height % 2 or arguments.clip_s < 1 or arguments.repeats < 1:
        raise UserError(
            f"--size {arguments.size} --clip_s {arguments.clip_s} --repeats {arguments.repeats}: sides are even and at "
            "least 64, the others at least 1"
        )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{arguments.size}_{arguments.clip_s}s.mp4"
    if not path.exists():
        make_clip(path, (height, width), arguments.clip_s * FPS, 250)
    return path


if __name__ == "__main__":
    run_command(main)
