"""A stream of ten hours under the window policy: positions, memory, latency and tokens, hour by hour."""

import statistics
import time

import psutil
from tqdm import tqdm

from dev.bench.parts.film import film, steps

N_STEPS, HOUR = 36_000, 3600


def bench_long(arguments, out) -> list[dict]:
    """A row for each hour; the nano model."""
    from demo.arguments import NANO_CHECKPOINT
    from models.load import load_checkpoint
    from models.streaming.options import RetentionOptions, StreamOptions
    from models.streaming.session import StreamingSession
    from models.streaming.threads import use_threads

    checkpoint = load_checkpoint(arguments.model_name_or_path or NANO_CHECKPOINT, device="cpu", dtype="float32")
    use_threads(checkpoint.model)
    session = StreamingSession(checkpoint, StreamOptions(retention=RetentionOptions("window")))
    rows, times, contexts, highest, n_words = [], [], [], [], 0
    n_steps = arguments.seconds or N_STEPS
    for number, (frames, start_s, end_s) in enumerate(tqdm(steps(film(), n_steps), total=n_steps, unit="step"), 1):
        started = time.perf_counter()
        step = session.step(frames, start_s, end_s)
        times.append(time.perf_counter() - started)
        contexts.append(step.n_context)
        highest.append(session.state.positions.next)
        n_words += len(step.text.split())
        if number % min(HOUR, n_steps) == 0:
            rows.append({
                "steps": number, "median_ms": statistics.median(times) * 1e3, "most_tokens": max(contexts),
                "highest_position": max(highest), "slots": session.state.cache.capacity, "words": n_words,
                "rss_mb": psutil.Process().memory_info().rss / 2**20,
            })  # fmt: skip
            times, contexts, highest, n_words = [], [], [], 0
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(f"{value:.5g}" for value in row.values()) + " |")
    return rows
