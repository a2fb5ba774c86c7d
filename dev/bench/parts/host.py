"""(b) Our own time in a step: the model is replaced by stored features, hidden states and logits."""

import statistics
import time

import torch

from dev.bench.parts.film import film, steps

N_STEPS, SETTLED = 400, 60  # steps; those after which the window is full
N_SAID = 4  # tokens a step before " ..."


def bench_host(arguments, out) -> list[dict]:
    """Median and p99 of a step under the window policy, one thread."""
    from demo.arguments import NANO_CHECKPOINT
    from models.load import load_checkpoint
    from models.streaming.options import RetentionOptions, StreamOptions
    from models.streaming.session import StreamingSession

    torch.set_num_threads(1)
    rows = []
    for policy in ("window", "full"):
        checkpoint = load_checkpoint(arguments.model_name_or_path or NANO_CHECKPOINT, device="cpu", dtype="float32")
        options = StreamOptions(retention=RetentionOptions(policy))
        session = StreamingSession(checkpoint, options, stored_batch(checkpoint))
        times = []
        for frames, start_s, end_s in steps(film(), N_STEPS):
            started = time.perf_counter()
            said = session.step(frames, start_s, end_s).token_ids
            times.append(time.perf_counter() - started)
            assert len(said) == N_SAID + 1, said
        settled = sorted(times[SETTLED:])
        rows.append({"policy": policy, "median_ms": statistics.median(settled) * 1e3,
                     "p99_ms": settled[int(len(settled) * 0.99)] * 1e3})  # fmt: skip
    print("| policy | median ms | p99 ms |\n|---|---|---|")
    for row in rows:
        print(f"| {row['policy']} | {row['median_ms']:.2f} | {row['p99_ms']:.2f} |")
    return rows


def stored_batch(checkpoint):
    """A batch whose vision tower, text model and head are stored numbers: N_SAID words, then " ..."."""
    from models.streaming.requests import Batch

    class Stored(Batch):
        """Answers at once."""

        n_told = 0
        seen = torch.zeros(4096, checkpoint.model.config.get_text_config().hidden_size)
        spoken, silent = (torch.zeros(1, checkpoint.model.lm_head.out_features) for _ in range(2))

        def features(self, patches, grids_thw):
            return self.seen[: len(patches) // 4]

        def logits(self, ids, features, positions, streams):
            self.n_told = (self.n_told + 1) % (N_SAID + 1)
            return (self.spoken if self.n_told else self.silent).clone()

    Stored.spoken[0, checkpoint.chat.text_ids("red")[0]] = 1e3
    Stored.silent[0, checkpoint.chat.silence] = 1e3
    return Stored(checkpoint.model)
