"""Frames a second of demo/render/video.py with captions and chat beside the same encoding without them.

    python dev/bench/bench_render.py --out outputs/bench_render
    python dev/bench/bench_render.py --height 2160 --seconds 10

The shipped match is enlarged to the size asked for, with sound, and rendered both ways in turn. Two CPU cores, 3
minutes at 1080p. Prints a JSON line per rendering, then the medians: frames per second of wall clock and of CPU time
(of all threads), and the ratios. CPU time is the one to trust where other work runs beside it.
"""

import json
import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import av
import numpy as np

from demo.render.commentary import FinishedCommentary
from demo.render.video import RenderOptions, render
from utils.arguments import parse_arguments
from utils.errors import run_command

MATCH = Path(__file__).resolve().parents[2] / "demo" / "sources" / "match_1.mp4"
FPS, RATE = 25, 48000
WORDS = "Cyan pass|out right, and the|winger takes it on,|past one, past two,|what a run this is!|Orange win it back"
ANSWER = "Cyan have the ball. They won it in midfield, passed it out left and then shot at goal."


@dataclass
class BenchArguments:
    """What is rendered, and how often."""

    height: int = field(default=1080, metadata={"help": "of the video; it is 16:9"})
    seconds: int = field(default=20, metadata={"help": "of the video"})
    rounds: int = field(default=5, metadata={"help": "how often each way"})
    out: str = field(default="outputs/bench_render", metadata={"help": "folder for the videos"})


def main() -> None:
    """Measure and print."""
    (arguments,) = parse_arguments(BenchArguments, description=__doc__.splitlines()[0])
    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    source = make_source(folder / f"match_{arguments.height}p.mp4", arguments.height, arguments.seconds)
    texts = WORDS.split("|")
    steps = [(second, second + 1, texts[second % len(texts)]) for second in range(arguments.seconds)]
    said = FinishedCommentary(steps, [(second, "What happened?", ANSWER) for second in range(3, arguments.seconds, 8)])
    ways = {"captions": RenderOptions(), "plain": RenderOptions(captions=False, chat=False)}
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    render(source, said, folder / "warm.mp4", overwrite=True)
    for _ in range(arguments.rounds):
        for name, options in ways.items():
            rows[name].append(measure(source, said, folder / f"{name}.mp4", options))
            print(
                json.dumps({"way": name, "fps": rows[name][-1][0], "frames_per_cpu_s": rows[name][-1][1]}), flush=True
            )
    medians = {name: [statistics.median(values) for values in zip(*found, strict=True)] for name, found in rows.items()}
    ratios = [round(a / b, 3) for a, b in zip(medians["captions"], medians["plain"], strict=True)]
    print(json.dumps({"medians": medians, "ratio_fps": ratios[0], "ratio_frames_per_cpu_s": ratios[1]}))


def measure(source: Path, said: FinishedCommentary, out: Path, options: RenderOptions) -> tuple[float, float]:
    """Frames per second of wall clock and of CPU time."""
    counts = [0]
    wall, cpu = time.perf_counter(), time.process_time()
    render(source, said, out, options, overwrite=True, progress=lambda n_done, n_all: counts.append(n_done))
    return round(counts[-1] / (time.perf_counter() - wall), 2), round(counts[-1] / (time.process_time() - cpu), 2)


def make_source(path: Path, height: int, seconds: int) -> Path:
    """The shipped match, enlarged, 25 frames a second, with a tone."""
    width, partial = height * 16 // 9 // 2 * 2, path.with_name(f"{path.name}.{os.getpid()}")
    with av.open(str(MATCH)) as match, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        frames = match.decode(video=0)
        shown = following = next(frames)
        for number in range(seconds * FPS):
            while following is not None and following.time <= number / FPS:
                shown, following = following.reformat(width, height, "yuv420p"), next(frames, None)
            shown.pts, shown.time_base, shown.pict_type = number, Fraction(1, FPS), 0
            container.mux(stream.encode(shown))
            n = RATE // FPS
            tone = 0.1 * np.sin(2 * np.pi * 440 / RATE * np.arange(number * n, (number + 1) * n, dtype=np.float64))
            block = av.AudioFrame.from_ndarray(tone[None].astype(np.float32), format="fltp", layout="mono")
            block.rate, block.pts, block.time_base = RATE, number * n, Fraction(1, RATE)
            container.mux(sound.encode(block))
        container.mux(stream.encode())
        container.mux(sound.encode())
    os.replace(partial, path)
    return path


if __name__ == "__main__":
    run_command(main)
