"""A step's time in an engine on one CPU thread and on all, for one stream and many: see models/streaming/threads.py."""

import os
import threading
import time
from itertools import cycle, islice

import torch

from dev.bench.parts.film import film

STREAMS = (1, 8, 64)
SIZES = {"nano": (84, 140), "0.5B": (224, 336)}
N_STEPS = {"nano": (30, 30), "0.5B": (2, 5)}  # before the clock starts, and after


def bench_threads(arguments, out) -> list[dict]:
    """A row for each number of threads and streams; the 0.5B shape with one stream only."""
    from dev.bench.parts.latency import checkpoint_of

    checkpoint = checkpoint_of(arguments)
    n_cores, rows = len(os.sched_getaffinity(0)), []
    for n_threads in sorted({1, n_cores}):
        torch.set_num_threads(n_threads)
        for n_streams in STREAMS if arguments.shape == "nano" else (1,):
            step_ms = _step_ms(checkpoint, n_streams, arguments.shape)
            rows.append({"threads": n_threads, "streams": n_streams, "ms_a_step_and_stream": step_ms})
    print(f"| {arguments.shape}: threads | streams | ms a step and stream |\n|---|---|---|")
    for row in rows:
        print(f"| {row['threads']} | {row['streams']} | {row['ms_a_step_and_stream']:.2f} |")
    return rows


def _step_ms(checkpoint, n_streams: int, shape: str) -> float:
    """Streams read as fast as the engine takes them; the steps after the first few."""
    from models.streaming.engine import Engine, EngineOptions
    from models.streaming.options import RetentionOptions, StreamOptions
    from models.streaming.session import timed_frames

    before, timed = (n * n_streams for n in N_STEPS[shape])
    moments, done = [], threading.Event()

    def listen(record: dict) -> None:
        if record["type"] == "step":
            moments.append(time.perf_counter())
            if len(moments) == before + timed:
                done.set()

    engine = Engine(checkpoint, EngineOptions(max_load=float("inf")))
    options = StreamOptions(max_new_tokens=16, retention=RetentionOptions("window"))
    n_frames = 2 * sum(N_STEPS[shape]) + 8
    for _ in range(n_streams):
        frames = torch.stack(list(islice(cycle(film(SIZES[shape])), n_frames)))
        engine.watch(engine.open(listen, options, realtime=False), timed_frames(frames))
    done.wait()
    engine.close()
    return (moments[before + timed - 1] - moments[before - 1]) / timed * 1e3
