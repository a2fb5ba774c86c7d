"""(c) Real-time streams that this machine sustains: one engine with N sessions, and N processes with one each."""

import multiprocessing
import threading
import time

import torch

from scripts.bench.film import film

MAX_LAG_S = 1.0  # the 99th percentile must stay below
FPS = 2


def feed(streams, pictures, seconds: float) -> None:
    """Push frames to every stream in real time, each at its own phase within the half second."""
    started, n = time.monotonic(), len(streams)
    for tick in range(int(seconds * FPS)):
        for number, stream in enumerate(streams):
            due = started + (tick + number / n) / FPS
            time.sleep(max(0.0, due - time.monotonic()))
            stream.push(tick / FPS, pictures[(tick + number) % len(pictures)])


def serve(model: str, n_streams: int, seconds: float, n_threads: int, queue, start=None) -> None:
    """One engine with n streams, all in real time; its lags and dropped frames go to the queue."""
    from models.engine import Engine, EngineOptions
    from models.load import load_checkpoint
    from models.retention import RetentionOptions
    from models.streaming import StreamOptions

    torch.set_num_threads(n_threads)
    checkpoint = load_checkpoint(model, device="cpu", dtype="float32")
    engine = Engine(checkpoint, EngineOptions(max_load=float("inf")))
    pictures, lags, lock = film(), [], threading.Lock()

    def listen(record: dict) -> None:
        if record["type"] == "step":
            with lock:
                lags.append((record["lag_s"], record["n_dropped"]))

    engine.measure((84, 140))
    if start is not None:
        start.wait()
    options = StreamOptions(retention=RetentionOptions("window"))
    streams = [engine.open(listen, options) for _ in range(n_streams)]
    feed(streams, pictures, seconds)
    time.sleep(MAX_LAG_S)
    steps = sum(stream.n_steps for stream in streams)
    engine.close()
    queue.put((lags, steps, n_streams))


def sustained(n: int, model: str, seconds: float, processes: bool) -> dict:
    """Whether n streams kept up: p99 of the lag, dropped frames, steps spoken of those due."""
    # Forked from one server that has imported everything, so that a process costs the memory of its own data only.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["models.engine", "data.live", "scripts.bench.film"])
    queue = context.Queue()
    if processes:
        start = context.Barrier(n)
        jobs = [context.Process(target=serve, args=(model, 1, seconds, 1, queue, start)) for _ in range(n)]
    else:
        jobs = [context.Process(target=serve, args=(model, n, seconds, 2, queue))]
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
    how = "processes" if processes else "one engine"
    print(
        f"  {how}, {n} streams: p99 lag {p99:.2f} s, {dropped} dropped, {spoken}/{due} steps: {row['ok']}", flush=True
    )
    return {"how": how, **row}


def largest(model: str, seconds: float, processes: bool, first: int, most: int) -> tuple[int, list[dict]]:
    """The largest sustained number: searched for to an eighth on runs of 20 s, then confirmed on a whole one."""
    rows, low, high, n = [], 0, most + 1, first
    while high - low > max(1, low // 8):
        rows.append(sustained(n, model, min(seconds, 20.0), processes))
        low, high = (n, high) if rows[-1]["ok"] else (low, n)
        n = min(2 * n, most) if high > most else (low + high) // 2
        if low == most:
            break
    while low:
        rows.append(sustained(low, model, seconds, processes))
        if rows[-1]["ok"]:
            break
        low = low * 7 // 8
    return low, rows


def bench_sessions(arguments, out) -> list[dict]:
    """Both sides; a table."""
    from demo.cli import NANO_CHECKPOINT

    model = str(arguments.model_name_or_path or NANO_CHECKPOINT)
    alone, rows = largest(model, arguments.sessions_s, True, first=8, most=96)
    together, more = largest(model, arguments.sessions_s, False, first=32, most=512)
    print("\n| | streams sustained |\n|---|---|")
    print(f"| N processes, one session and one thread each | {alone} |")
    print(f"| one engine, two threads | {together} ({together / max(alone, 1):.1f}x) |")
    return [*rows, *more]
