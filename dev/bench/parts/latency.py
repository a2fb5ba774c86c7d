"""(a) A step's latency and the process's memory as the stream grows, against generate with a growing cache.

`full` and generate keep the same and say the same tokens: their ratio is of equal work. `window` forgets, which is what
bounds a step: its ratio against generate grows with the stream and is mostly that of what is kept.
"""

import multiprocessing
import statistics
import time

import psutil
import torch
import transformers
from tqdm import tqdm

from dev.bench.parts.film import film, steps

POINTS_S = {"nano": (10, 60, 300, 1800, 3600), "0.5B": (10, 60, 300)}
AROUND = 30  # steps whose median stands for a point
MAX_NEW_TOKENS = {"nano": 16, "0.5B": 4}  # random weights never fall silent
FULL_S = {"nano": 300, "0.5B": 60}  # how long everything is kept, beside generate, which does the same
SIZES = {"nano": (84, 140), "0.5B": (224, 336)}  # 15 and 96 visual tokens a step


def checkpoint_of(arguments):
    """The checkpoint under test, in float32 on the CPU."""
    from demo.arguments import NANO_CHECKPOINT
    from dev.bench.parts.shapes import random_checkpoint
    from models.load import load_checkpoint
    from models.streaming.threads import use_threads

    if arguments.shape == "nano":
        name = arguments.model_name_or_path or NANO_CHECKPOINT
        checkpoint = load_checkpoint(name, device="cpu", dtype="float32")
    else:
        checkpoint = random_checkpoint(arguments.shape, "cpu", torch.float32)
    use_threads(checkpoint.model)
    return checkpoint


class Ours:
    """A session under the window policy with its defaults, or keeping everything."""

    def __init__(self, checkpoint, cache_policy: str, max_new_tokens: int):
        from models.streaming.options import RetentionOptions, StreamOptions
        from models.streaming.session import StreamingSession

        retention = RetentionOptions(cache_policy)
        options = StreamOptions(max_new_tokens=max_new_tokens, repetition_penalty=1.0, retention=retention)
        self.session = StreamingSession(checkpoint, options)

    def step(self, frames, start_s: float, end_s: float) -> tuple[list[int], int]:
        """Tokens said and tokens in the cache."""
        step = self.session.step(frames, start_s, end_s)
        return step.token_ids, step.n_context


class Generate:
    """What one writes with plain transformers: the library's model and processor, one generate a step on its cache."""

    def __init__(self, checkpoint, max_new_tokens: int):
        from transformers import DynamicCache, Qwen2VLForConditionalGeneration
        from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

        from data.samples.positions import PositionTracker

        self.chat, config = checkpoint.chat, checkpoint.model.config
        self.max_new_tokens = max_new_tokens
        self.model = Qwen2VLForConditionalGeneration(config).eval()
        self.model.load_state_dict(checkpoint.model.state_dict())
        self.processor = Qwen2VLVideoProcessor()
        self.cache, self.tracker = DynamicCache(config=config.get_text_config()), PositionTracker("mrope")
        self.pads = {"image": config.image_token_id, "video": config.video_token_id}
        self.ids = torch.empty((1, 0), dtype=torch.long)
        self.pending = self.chat.system_ids()
        self.query = "Please describe the video."

    @torch.inference_mode()
    def step(self, frames, start_s: float, end_s: float) -> tuple[list[int], int]:
        """Tokens said and tokens in the cache."""
        from data.samples.conversation import Turn, VisualBlock
        from data.samples.words import step_label

        size = {"shortest_edge": 28 * 28, "longest_edge": frames.shape[0] * frames.shape[2] * frames.shape[3]}
        pixels = self.processor(videos=[frames], do_sample_frames=False, size=size, return_tensors="pt")
        block = VisualBlock("video", tuple(pixels["video_grid_thw"][0].tolist()))
        parts = [step_label(start_s, end_s), block, *([self.query] if self.query else [])]
        self.query = None
        new = [*self.pending, *self.chat.turn_ids(Turn("user", parts)), *self.chat.header_ids("assistant")]
        positions = self.tracker.extend(torch.tensor(new), [block], self.pads)
        known = self.ids.shape[1]
        self.ids = torch.cat((self.ids, torch.tensor([new])), dim=1)
        rows = torch.cat((torch.arange(known, known + len(new))[None], positions))[:, None]  # [4, 1, n]
        said = self.model.generate(
            input_ids=self.ids, attention_mask=torch.ones_like(self.ids), position_ids=rows, past_key_values=self.cache,
            pixel_values_videos=pixels["pixel_values_videos"], video_grid_thw=pixels["video_grid_thw"],
            max_new_tokens=self.max_new_tokens, do_sample=False, eos_token_id=[self.chat.silence, *self.chat.eos_ids],
            pad_token_id=self.chat.pad, suppress_tokens=list(self.pads.values()),
        )[0, self.ids.shape[1] :].tolist()  # fmt: skip
        # The last token is not in the cache yet; it goes with the next turn.
        self.ids = torch.cat((self.ids, torch.tensor([said[:-1]], dtype=torch.long)), dim=1)
        self.tracker.next += len(said) - 1
        self.pending = [said[-1], *self.chat.closing_ids()]
        return said, self.cache.get_seq_length()


def run_side(arguments, side: str, n_seconds: int, queue) -> None:
    """One side in a process of its own: rows of second, latency, memory and tokens go to the queue."""
    checkpoint = checkpoint_of(arguments)
    ours = {"window": "window", "full": "full"}
    most = MAX_NEW_TOKENS[arguments.shape]
    stream = Ours(checkpoint, ours[side], most) if side in ours else Generate(checkpoint, most)
    process, times, tokens, rows = psutil.Process(), [], [], []
    points = [s for s in POINTS_S[arguments.shape] if s <= n_seconds]
    pictures = film(SIZES[arguments.shape])
    for frames, start_s, end_s in tqdm(steps(pictures, n_seconds - 2), total=n_seconds - 2, desc=side, unit="step"):
        started = time.perf_counter()
        said, n_context = stream.step(frames, start_s, end_s)
        times.append(time.perf_counter() - started)
        tokens.append(said)
        if end_s in points:
            latency = statistics.median(times[-min(AROUND, len(times) - 1) :])
            rss_mb = process.memory_info().rss / 2**20
            rows.append({"side": side, "second": int(end_s), "latency_ms": latency * 1e3, "rss_mb": rss_mb,
                         "n_context": n_context, "tokens": sum(map(len, tokens))})  # fmt: skip
    queue.put((rows, times, tokens))


def bench_latency(arguments, out) -> list[dict]:
    """Every side in turn; a table and a plot."""
    n_seconds = arguments.seconds or POINTS_S[arguments.shape][-1]
    generate_s = arguments.baseline_seconds or n_seconds
    sides = {"window": n_seconds, "full": min(n_seconds, FULL_S[arguments.shape]), "generate": generate_s}
    rows, times, tokens = [], {}, {}
    context = multiprocessing.get_context("spawn")
    for side, seconds in sides.items():
        queue = context.Queue()
        process = context.Process(target=run_side, args=(arguments, side, seconds, queue))
        process.start()
        side_rows, times[side], tokens[side] = queue.get()
        process.join()
        rows += side_rows
    same = sum(a == b for a, b in zip(tokens["full"], tokens["generate"], strict=False))
    n_both = min(len(tokens["full"]), len(tokens["generate"]))
    print(f"{arguments.shape}, transformers {transformers.__version__}")
    print(f"full and generate say the same tokens in {same} of {n_both} steps\n")
    _table(rows)
    _plot(times, out / f"latency_{arguments.shape}.png", arguments.shape)
    return rows


def _table(rows: list[dict]) -> None:
    sides = ("window", "full", "generate")
    print(f"| second | {' | '.join(f'{side} ms, MB' for side in sides)} | generate / full | generate / window |")
    print("|---|---|---|---|---|---|")
    for second in sorted({row["second"] for row in rows}):
        at = {row["side"]: row for row in rows if row["second"] == second}
        cells = [f"{at[s]['latency_ms']:.1f}, {at[s]['rss_mb']:.0f}" if s in at else "" for s in sides]
        for side in ("full", "window"):
            both = side in at and "generate" in at
            cells.append(f"{at['generate']['latency_ms'] / at[side]['latency_ms']:.1f}x" if both else "")
        print(f"| {second} | {' | '.join(cells)} |")


def _plot(times: dict[str, list[float]], path, shape: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for side, values in times.items():
        smooth = [statistics.median(values[max(0, i - AROUND) : i + 1]) * 1e3 for i in range(1, len(values))]
        axes.plot(
            range(4, len(smooth) + 4), smooth, label={"generate": "transformers generate"}.get(side, f"ours, {side}")
        )
    axes.set(
        xlabel="second of the stream", ylabel=f"ms a step (median of {AROUND})", yscale="log", title=f"{shape}, CPU"
    )
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"\nplot: {path}")
