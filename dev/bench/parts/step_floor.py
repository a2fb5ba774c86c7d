"""(d) A step of the 7B shape on a GPU beside the floor that the hardware sets, measured in the same run."""

import statistics
import time

import torch

from dev.bench.parts.film import film, steps
from utils.errors import UserError

SIZE_HW = (448, 672)  # 384 visual tokens for two frames
N_SAID = 4  # tokens a step: the threshold forbids silence before, the token limit ends it
N_STEPS, SETTLED = 120, 30
STREAMS = (8, 16, 24, 32, 48)


def measured_hardware(device: str) -> tuple[float, float]:
    """Bytes a second of reading memory and bf16 operations a second of a matrix product, best of several."""
    big = torch.empty(1 << 30, dtype=torch.int32, device=device)
    a, b = (torch.randn(8192, 8192, device=device, dtype=torch.bfloat16) for _ in range(2))
    bandwidth = max(big.nbytes / _seconds(lambda: big.sum()) for _ in range(5))
    flops = max(2 * 8192**3 / _seconds(lambda: a @ b) for _ in range(5))
    return bandwidth, flops


def _seconds(work) -> float:
    work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def floor_s(model, n_context: int, bandwidth: float, flops: float) -> float:
    """Least seconds of a step: its multiplications at full rate, then N_SAID - 1 readings of weights and cache."""
    text, tower = model.model.language_model, model.model.visual
    n_visual = SIZE_HW[0] * SIZE_HW[1] // 28**2
    layers = sum(p.numel() for p in text.layers.parameters())
    head = model.lm_head.weight
    vision = 2 * sum(p.numel() for p in tower.parameters()) * 4 * n_visual
    prefill = 2 * layers * (n_visual + 20)
    config = model.config.get_text_config()
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * 2
    cache = n_context * per_token * (config.hidden_size // config.num_attention_heads)
    decode = (2 * layers + head.nbytes + cache) / bandwidth
    return (vision + prefill) / flops + (N_SAID - 1) * decode


def bench_gpu(arguments, out) -> list[dict]:
    """One stream, then several real-time streams, each number of them for --sessions_s seconds."""
    if not torch.cuda.is_available():
        raise UserError("no CUDA GPU here; the part gpu needs one with 40 GB")
    from dev.bench.parts.shapes import random_checkpoint
    from models.streaming.options import RetentionOptions, StreamOptions
    from models.streaming.session import StreamingSession

    checkpoint = random_checkpoint("7B", "cuda", torch.bfloat16)
    bandwidth, flops = measured_hardware("cuda")
    options = StreamOptions(
        max_new_tokens=N_SAID, silence_threshold_base=1.0, retention=RetentionOptions("window", vision_s=16.0)
    )
    session, times = StreamingSession(checkpoint, options), []
    for frames, start_s, end_s in steps(film(SIZE_HW), N_STEPS):
        started = time.perf_counter()
        session.step(frames, start_s, end_s)
        times.append(time.perf_counter() - started)
    settled = sorted(times[SETTLED:])
    floor = floor_s(checkpoint.model, session.state.n_tokens, bandwidth, flops)
    p50, p99 = statistics.median(settled), settled[int(len(settled) * 0.99)]
    row = {
        "p50_ms": p50 * 1e3, "p99_ms": p99 * 1e3, "floor_ms": floor * 1e3, "times_floor": p50 / floor,
        "fps_one_stream": 2 / p50, "bandwidth_gb_s": bandwidth / 1e9, "tflops": flops / 1e12,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
    }  # fmt: skip
    print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
    print("| " + " | ".join(f"{value:.3g}" for value in row.values()) + " |\n")
    return [row, *_streams(checkpoint, options, arguments.sessions_s)]


def _streams(checkpoint, options, seconds: float) -> list[dict]:
    from dev.bench.parts.sessions import MAX_LAG_S, feed
    from models.streaming.engine import Engine, EngineOptions

    rows, pictures = [], film(SIZE_HW)
    print("| streams | p99 lag s | dropped | peak GB |\n|---|---|---|---|")
    for n in STREAMS:
        engine = Engine(checkpoint, EngineOptions(max_load=float("inf")))
        streams = [engine.open(lambda record: None, options) for _ in range(n)]
        feed(streams, pictures, seconds)
        stats = engine.stats()
        row = {"streams": n, "p99_lag_s": stats["lag_p99_s"], "dropped": stats["dropped"],
               "peak_gb": torch.cuda.max_memory_allocated() / 1e9}  # fmt: skip
        engine.close()
        rows.append(row)
        print("| " + " | ".join(f"{value:.3g}" for value in row.values()) + " |", flush=True)
        if row["p99_lag_s"] > MAX_LAG_S or row["dropped"]:
            break
    return rows
