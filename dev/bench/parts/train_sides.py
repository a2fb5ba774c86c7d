"""Both sides of dev/bench/bench_train.py: the library's Trainer as one writes it and train.py's, on equal samples."""

import functools
import multiprocessing
import resource
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import Qwen2VLForConditionalGeneration, Trainer, TrainerCallback, TrainingArguments

from data.loading.collate import pack
from data.loading.loader import LoaderOptions, SampleLoader
from data.loading.order import SampleOrder
from data.nano.corpus import CorpusArguments, make_corpus
from data.samples.annotations import AnnotationFile
from data.samples.conversation import VisualBlock, stream_turns
from data.samples.encoder import Example, SampleEncoder
from data.samples.positions import position_ids
from data.samples.words import SILENCE
from dev.bench.parts.shapes import random_checkpoint
from models.load import Checkpoint, load_checkpoint
from models.streaming.threads import use_threads
from models.training.flops import FlopCounter, peak_flops
from models.training.train_arguments import TrainArguments
from models.training.trainer import CommentaryTrainer, freeze_modules
from models.vision import normalize_patches
from utils.errors import UserError

BUDGET = {"nano": 4096, "2B": 24576, "7B": 24576}
LARGE_STEPS, LARGE_FRAMES_HW = 237, (224, 280)  # of a large sample: seconds, and 80 visual tokens in each of them
COMMON = {
    "learning_rate": 1e-5, "report_to": "none", "save_strategy": "no", "logging_steps": 1000, "disable_tqdm": True,
    "gradient_checkpointing": True, "max_grad_norm": 1.0, "num_train_epochs": 1,
}  # fmt: skip


class Examples(Dataset):
    """Samples that are in memory already, for both sides."""

    source_names = ("benchmark",)

    def __init__(self, examples: list[Example], encoder: SampleEncoder | None = None):
        self.examples, self.encoder = examples, encoder

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> Example:
        return self.examples[i]


class Clock(TrainerCallback):
    """Seconds and tokens after the warm-up; seen: tells the tokens of the batches so far."""

    def __init__(self, n_warmup_tokens: int, seen):
        self.n_warmup_tokens, self.seen = n_warmup_tokens, seen
        self.begun: tuple[float, int] | None = None
        self.seconds = self.tokens = 0.0

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now, tokens = time.perf_counter(), self.seen()
        if self.begun is None and tokens >= self.n_warmup_tokens:
            self.begun = now, tokens
        elif self.begun is not None:
            self.seconds, self.tokens = now - self.begun[0], tokens - self.begun[1]


def checkpoint_of(arguments) -> Checkpoint:
    """The nano checkpoint, or random weights of a larger shape; the tower is frozen, as in the published training."""
    if arguments.shape == "nano":
        from demo.arguments import NANO_CHECKPOINT

        checkpoint = load_checkpoint(NANO_CHECKPOINT, device=arguments.device, dtype="float32")
    else:
        dtype = torch.bfloat16 if arguments.device == "cuda" else torch.float32
        checkpoint = random_checkpoint(arguments.shape, arguments.device, dtype, n_layers=arguments.n_layers)
    freeze_modules(checkpoint.model, ["visual"])
    use_threads(checkpoint.model)
    return checkpoint


def examples_of(arguments, checkpoint: Checkpoint) -> list[Example]:
    """Encoded samples: narrated clips of the nano world, or streams of noise of 24k tokens."""
    if arguments.shape != "nano":
        return [large_example(checkpoint, seed) for seed in range(min(arguments.n_samples, 4))] * (
            -(-arguments.n_samples // 4)
        )
    folder = make_corpus(CorpusArguments(f"{arguments.output_dir}/corpus", n_clips=arguments.n_samples))
    encoder = SampleEncoder(checkpoint.chat, checkpoint.limits, checkpoint.position_mode)
    file = AnnotationFile(folder / "commentary.jsonl")
    return [encoder.encode(file[i]) for i in range(len(file))]


def large_example(checkpoint: Checkpoint, seed: int) -> Example:
    """A stream of four minutes: a step a second, words in each; patches are noise."""
    random = torch.Generator().manual_seed(seed)
    height, width = (side // 14 for side in LARGE_FRAMES_HW)
    blocks = [VisualBlock("video", (3 if i == 0 else 1, height, width)) for i in range(LARGE_STEPS)]
    texts = [f" The red team passes to number {i % 9} {SILENCE.strip()}" for i in range(LARGE_STEPS)]
    encoded = checkpoint.chat.encode(stream_turns(blocks, texts, "Please describe the video."))
    ids = torch.tensor(encoded.input_ids)
    grids = torch.tensor([block.grid_thw for block in encoded.blocks])
    config = checkpoint.model.config
    pads = {"image": config.image_token_id, "video": config.video_token_id}
    patches = torch.randint(0, 256, (int(grids.prod(-1).sum()), 1176), dtype=torch.uint8, generator=random)
    return Example(
        ids, torch.tensor(encoded.labels), position_ids(ids, encoded.blocks, "mrope", pads), patches, grids,
        ["video"] * len(blocks), torch.zeros(0, dtype=torch.float64), "", {},
    )  # fmt: skip


def run_recipe(arguments, checkpoint: Checkpoint, examples: list[Example], folder: str) -> Clock:
    """The library's model and Trainer, one sample a step, its loss over every token's logits."""
    model = Qwen2VLForConditionalGeneration(checkpoint.model.config)
    model.load_state_dict(checkpoint.model.state_dict())
    model.to(checkpoint.device, checkpoint.model.dtype).model.visual.requires_grad_(False)
    bf16 = arguments.device == "cuda"
    # Updates of about as many samples as ours.
    accumulation = max(1, budget(arguments) * len(examples) // sum(len(e.input_ids) for e in examples))
    args = TrainingArguments(
        folder, per_device_train_batch_size=1, gradient_accumulation_steps=accumulation, bf16=bf16,
        use_cpu=arguments.device == "cpu", gradient_checkpointing_kwargs={"use_reentrant": False},
        remove_unused_columns=False, **COMMON,
    )  # fmt: skip
    seen = [0]

    def features(batch: list[Example]) -> dict[str, torch.Tensor]:
        (example,) = batch
        seen[0] += len(example.input_ids)
        return {
            "input_ids": example.input_ids[None], "labels": example.labels[None],
            "position_ids": example.position_ids[:, None], "video_grid_thw": example.grid_thw,
            "pixel_values_videos": normalize_patches(example.patches, torch.float32),
        }  # fmt: skip

    clock = Clock(n_warmup_tokens(arguments, examples), lambda: seen[0])
    trainer = Trainer(model, args, train_dataset=Examples(examples), data_collator=features, callbacks=[clock])
    trainer.train()
    return clock


def run_ours(arguments, checkpoint: Checkpoint, examples: list[Example], folder: str) -> Clock:
    """train.py's trainer on packed rows."""
    args = TrainArguments(folder, bf16=arguments.device == "cuda", freeze_modules=["visual"], **COMMON)
    encoder = SampleEncoder(checkpoint.chat, checkpoint.limits, checkpoint.position_mode)
    options = LoaderOptions(max_tokens=budget(arguments))
    loader = SampleLoader(Examples(examples, encoder), SampleOrder(len(examples)), pack, options)
    trainer = CommentaryTrainer(checkpoint, args, loader, Path(folder) / "bad_samples.json")
    clock = Clock(n_warmup_tokens(arguments, examples), lambda: loader.totals["tokens"])
    trainer.add_callback(clock)
    trainer.run()
    return clock


def budget(arguments) -> int:
    """Tokens in one of our rows."""
    return arguments.max_tokens_per_batch or BUDGET[arguments.shape]


def n_warmup_tokens(arguments, examples: list[Example]) -> int:
    """Tokens before the clock starts."""
    return sum(len(example.input_ids) for example in examples[: arguments.n_warmup])


def run_side(arguments, side: str, queue) -> None:
    """One side in a process of its own: its row goes to the queue."""
    torch.manual_seed(0)
    checkpoint = checkpoint_of(arguments)
    examples = examples_of(arguments, checkpoint)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        clock = {"recipe": run_recipe, "ours": run_ours}[side](arguments, checkpoint, examples, folder)
    on_gpu = arguments.device == "cuda"
    peak_mb = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_rss_mb(before)
    queue.put({"side": side, "tokens": clock.tokens, "seconds": clock.seconds, "peak_mb": peak_mb,
               "tokens_per_second": clock.tokens / clock.seconds, "mfu": mfu(checkpoint, examples, clock)})  # fmt: skip


def peak_rss_mb(before_kb: int) -> float:
    """What training added to the most memory that this process had, in MB."""
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024


def mfu(checkpoint: Checkpoint, examples: list[Example], clock: Clock) -> float:
    """Share of the peak: the operations that these samples ask for, however computed; nan without a data sheet."""
    counter = FlopCounter(checkpoint.model)
    flops = [counter.count([len(e.input_ids)], int((e.labels[1:] != -100).sum()), e.grid_thw).model for e in examples]
    per_token = sum(flops) / sum(len(e.input_ids) for e in examples)
    dtype = torch.bfloat16 if checkpoint.device.type == "cuda" else torch.float32
    peak = peak_flops(checkpoint.device, dtype)
    return per_token * clock.tokens / clock.seconds / peak if peak else float("nan")


def compare(arguments) -> list[dict]:
    """Both sides in turn, several times; a table of medians. Returns every row."""
    Path(arguments.output_dir).mkdir(parents=True, exist_ok=True)
    context, rows = multiprocessing.get_context("spawn"), []
    for _ in range(arguments.repeats):
        for side in ("recipe", "ours"):
            queue = context.Queue()
            process = context.Process(target=run_side, args=(arguments, side, queue))
            process.start()
            process.join()  # a row is small enough to wait in the queue
            if process.exitcode:
                raise UserError(f"{side} ended with status {process.exitcode}; its error is above")
            rows.append(queue.get())
            print(f"  {side}: {rows[-1]['tokens_per_second']:.0f} tokens/s, {rows[-1]['peak_mb']:.0f} MB", flush=True)
    middle = functools.partial(_median, rows)
    base = middle("recipe", "tokens_per_second")
    print(f"\n{arguments.shape}, {arguments.device}\n\n| side | tokens/s | | peak MB | MFU |\n|---|---|---|---|---|")
    for side in ("recipe", "ours"):
        speed = middle(side, "tokens_per_second")
        peak_mb, share = middle(side, "peak_mb"), middle(side, "mfu")
        print(f"| {side} | {speed:.0f} | {speed / base:.2f}x | {peak_mb:.0f} | {share:.3f} |")
    return rows


def _median(rows: list[dict], side: str, name: str) -> float:
    return statistics.median(row[name] for row in rows if row["side"] == side)
