"""What a clip's 2-fps proxy saves training, and what it costs: time to read, disk, and how far its frames are off.

    python dev/bench/bench_proxies.py                          (--video match.mp4 for one's own footage)

The original (--seconds of 1280x720 at 30 fps, made; or --video: real footage gives smaller ratios) is read as training
reads it, then its proxies of several qualities, made by the stage data/production/make_proxies.py, all on one thread
and at training's size. "off" compares frames of the proxy with those of the original: grey levels on average, and the
peak signal-to-noise ratio.
Hardware: one CPU core. Time: about 4 minutes. Prints a Markdown table.
"""

import math
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from data.production.make_proxies import MakeProxies, ProxyOptions
from data.production.record import Record
from data.video.clip import read_clip
from data.video.frame_plan import Clip
from dev.bench.bench_data import FPS as MADE_FPS
from dev.bench.bench_data import make_clip
from utils.arguments import parse_arguments
from utils.errors import run_command

H264 = {"codec": "h264"}
KINDS = ({}, {"quantizer": 2}, {"quantizer": 3}, {"gop": 1}, H264, {**H264, "crf": 18}, {**H264, "chroma": "444"})


@dataclass
class ProxyBenchArguments:
    """What is read."""

    video: str | None = field(default=None, metadata={"help": "a video of one's own; default: a made one"})
    seconds: int = field(default=60, metadata={"help": "of the video that are read"})
    total_pixels: int = field(
        default=19267584,
        metadata={"help": "VIDEO_MAX_PIXELS; a third makes frames as small as in a clip 3 times as long"},
    )
    repeats: int = field(default=3, metadata={"help": "reads; the fastest counts"})


def timed_read(path: str, arguments: ProxyBenchArguments) -> tuple[Clip, float]:
    """A clip as training reads it, and the CPU seconds that the fastest read took."""
    limits, seconds = ProxyOptions(total_pixels=arguments.total_pixels).limits, []
    for _ in range(arguments.repeats):
        started = time.process_time()
        clip = read_clip(path, None, float(arguments.seconds), limits=limits)
        seconds.append(time.process_time() - started)
    return clip, min(seconds)


def row(kind: dict, video: str, original: Clip, original_s: float, folder: str, arguments: ProxyBenchArguments) -> str:
    """One line of the table: a kind of proxy."""
    started = time.process_time()
    stage = MakeProxies(ProxyOptions(folder=folder, total_pixels=arguments.total_pixels, **kind))
    (made,) = stage.expand(Record("clip", video=video, end_s=float(arguments.seconds)))
    made_s = time.process_time() - started
    proxy, proxy_s = timed_read(made.video, arguments)
    assert (proxy.times_s == original.times_s).all(), "a proxy with other times"
    difference = proxy.frames.short() - original.frames.short()
    levels = difference.abs().float().mean().item()
    psnr = 10 * math.log10(255**2 / difference.float().square().mean().item())
    size_mb = Path(made.video).stat().st_size / 1e6
    name = ", ".join(f"--{key} {value}" for key, value in kind.items()) or "as by default"
    per_frame = proxy_s / len(proxy.plan) * 1000
    return (
        f"| {name} | {per_frame:.2f} | {original_s / proxy_s:.1f} | {size_mb:.2f} | {levels:.2f} | {psnr:.1f} "
        f"| {made_s:.1f} |"
    )


def main() -> None:
    (arguments,) = parse_arguments(ProxyBenchArguments, description=__doc__.splitlines()[0])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        video = arguments.video or str(Path(folder) / "clip.mp4")
        if not arguments.video:
            make_clip(Path(video), (720, 1280), arguments.seconds * MADE_FPS, gop=250)
        original, original_s = timed_read(video, arguments)
        per_frame = original_s / len(original.plan) * 1000
        size_mb = Path(video).stat().st_size / 1e6
        print("| | ms a frame | times as fast | MB | grey levels off | dB | seconds to make |")
        print("|---|---|---|---|---|---|---|")
        print(f"| original, {tuple(original.frames.shape)} | {per_frame:.2f} | 1 | {size_mb:.2f} | | | |")
        for kind in KINDS:
            print(row(kind, video, original, original_s, folder, arguments), flush=True)


if __name__ == "__main__":
    run_command(main)
