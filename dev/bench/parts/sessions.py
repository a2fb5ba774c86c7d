"""(c) Real-time streams that this machine sustains: engines with many sessions each, and N processes with one each.

Frames are decoded beforehand and pushed to the engine in its own process: no JPEG, no HTTP, no Ray.
"""

import multiprocessing
import os
import threading
import time

import torch

from data.video.frame_plan import FPS
from dev.bench.parts.film import film

MAX_LAG_S = 1.0  # the 99th percentile must stay below


def feed(streams, pictures, seconds: float) -> None:
    """Push frames to every stream in real time, each at its own phase within the half second."""
    started, n = time.monotonic(), len(streams)
    for tick in range(int(seconds * FPS)):
        for number, stream in enumerate(streams):
            due = started + (tick + number / n) / FPS
            time.sleep(max(0.0, due - time.monotonic()))
            stream.push(tick / FPS, pictures[(tick + number) % len(pictures)])


def serve(model: str, n_streams: int, seconds: float, queue, start) -> None:
    """One engine with n streams, all in real time; its lags and dropped frames go to the queue."""
    from models.load import load_checkpoint
    from models.streaming.engine import Engine, EngineOptions
    from models.streaming.options import RetentionOptions, StreamOptions

    torch.set_num_threads(1)
    checkpoint = load_checkpoint(model, device="cpu", dtype="float32")
    engine = Engine(checkpoint, EngineOptions(max_load=float("inf")))
    pictures, lags, lock = film(), [], threading.Lock()

    def listen(record: dict) -> None:
        if record["type"] == "step":
            with lock:
                lags.append((record["lag_s"], record["n_dropped"]))

    engine.measure((84, 140))
    start.wait()
    options = StreamOptions(retention=RetentionOptions("window"))
    streams = [engine.open(listen, options) for _ in range(n_streams)]
    feed(streams, pictures, seconds)
    time.sleep(MAX_LAG_S)
    steps = sum(stream.n_steps for stream in streams)
    engine.close()
    queue.put((lags, steps, n_streams))


def sustained(n: int, model: str, seconds: float, n_engines: int) -> dict:
    """Whether n streams, dealt to processes with an engine each, kept up: their lag, frames dropped, steps spoken."""
    # Forked from one server that has imported everything, so that a process costs the memory of its own data only.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["models.streaming.engine", "data.video.live", "dev.bench.parts.film"])
    queue = context.Queue()
    start = context.Barrier(n_engines)
    shares = [len(range(first, n, n_engines)) for first in range(n_engines)]
    jobs = [context.Process(target=serve, args=(model, share, seconds, queue, start)) for share in shares]
    for job in jobs:
        job.start()
    results = [queue.get() for _ in jobs]
    for job in jobs:
        job.join()
    lags = sorted(lag for lags, _, _ in results for lag, _ in lags)
    dropped = sum(n_dropped for lags, _, _ in results for _, n_dropped in lags)
    spoken, due = sum(steps for _, steps, _ in results), n * (int(seconds) - 2)
    p99 = lags[min(int(len(lags) * 0.99), len(lags) - 1)] if lags else float("inf")
    row = {"streams": n, "p50_lag_s": lags[len(lags) // 2] if lags else None, "p99_lag_s": p99, "dropped": dropped,
           "steps": spoken, "steps_due": due}  # fmt: skip
    row["ok"] = p99 < MAX_LAG_S and not dropped and spoken >= due
    how = f"  {n} streams in {n_engines} processes: p99 lag {p99:.2f} s"
    print(f"{how}, {dropped} dropped, {spoken}/{due} steps: {row['ok']}", flush=True)
    return {"engines": n_engines, **row}


def largest(model: str, seconds: float, n_engines: int | None, first: int, most: int) -> tuple[int, list[dict]]:
    """The largest sustained number: searched for to an eighth on runs of 20 s, then confirmed on a whole one.

    n_engines: None for one for each stream.
    """
    rows, low, high, n = [], 0, most + 1, first
    while high - low > max(1, low // 8):
        rows.append(sustained(n, model, min(seconds, 20.0), n_engines or n))
        low, high = (n, high) if rows[-1]["ok"] else (low, n)
        n = min(2 * n, most) if high > most else (low + high) // 2
        if low == most:
            break
    while low:
        rows.append(sustained(low, model, seconds, n_engines or low))
        if rows[-1]["ok"]:
            break
        low = low * 7 // 8
    return low, rows


def bench_sessions(arguments, out) -> list[dict]:
    """All three; a table. Every process computes on one thread, the fastest for this model."""
    from demo.arguments import NANO_CHECKPOINT

    model = str(arguments.model_name_or_path or NANO_CHECKPOINT)
    n_cores = len(os.sched_getaffinity(0))
    alone, rows = largest(model, arguments.sessions_s, None, first=64, most=128)
    one, of_one = largest(model, arguments.sessions_s, 1, first=64, most=1024)
    each, of_each = largest(model, arguments.sessions_s, n_cores, first=128, most=1024)
    print("\n| | streams sustained |\n|---|---|")
    print(f"| N processes, one session each | {alone} |")
    print(f"| one engine | {one} ({one / max(alone, 1):.1f}x) |")
    print(f"| an engine for each of {n_cores} cores | {each} ({each / max(alone, 1):.1f}x) |")
    return [*rows, *of_one, *of_each]
