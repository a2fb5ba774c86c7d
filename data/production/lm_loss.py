"""Mean loss of a clip's transcript under a language model that is given the title and what was said before.

    python -m data.production.lm_loss clips.jsonl kept.jsonl --max_loss 5

A transcript that is too easy to foresee repeats itself or is read out; one that is too hard is garbled, or in another
language. The paper keeps 1.5 to 6.5 for pre-training and 1.5 to 5 for SFT, under Qwen2-1.5B-Instruct; the loss is over
the transcript's tokens, its end not among them. Hardware: one GPU per worker, or all CPU cores. Time: figures are in
dev/benchmarks/production.md; dev/bench/bench_lm_loss.py measures.
"""

import hashlib
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.model_files import local_model, model_fingerprint
from data.production.record import Record
from data.production.stage import Stage, Worker
from utils.errors import UserError
from utils.templates import Templates

TEMPLATES = Path(__file__).with_name("templates")
CUTS = 8  # earlier speech loses its start in steps, of as many words as an eighth of the tokens
DECIMALS = 3  # what another machine changes comes after them
NAMES = ("lm_loss_start", "lm_loss_start_untitled", "lm_loss_continue", "lm_loss_continue_untitled")


@dataclass
class LossOptions:
    """Which model, what it is given, and what is kept."""

    model: str = field(
        default="Qwen/Qwen2-1.5B-Instruct", metadata={"help": "any causal LM: hub id, folder, or GGUF file"}
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = field(
        default=None, metadata={"help": "number format; default: bfloat16 on a GPU, float32 on a CPU"}
    )
    previous_in: Literal["request", "answer"] = field(
        default="request",
        metadata={
            "help": "where earlier speech stands: in the request, as published, or at the start of the answer, so that "
            "each word of a video is read once and not twice"
        },
    )
    max_tokens: int = field(
        default=8192,
        metadata={"help": "of request and transcript; what was said before loses its start over it", "ge": 1},
    )
    min_loss: float = field(default=1.5, metadata={"help": "keep clips from this loss on", "threshold": True})
    max_loss: float = field(
        default=6.5, metadata={"help": "keep clips up to this loss (the paper: 6.5, for SFT 5)", "threshold": True}
    )
    tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "read at once, padding included; default: 4096 on a GPU, 128 on a CPU; decides the last digits",
            "ge": 1,
        },
    )


class LmLoss(Stage):
    """Sets scores["lm_loss"], in nats a token."""

    name, version, Options = "lm_loss", 3, LossOptions
    batch_size, gpus, cpus = 512, 1.0, 0

    def check(self) -> None:
        local_model(self.options.model)
        if self.options.min_loss > self.options.max_loss:
            raise UserError(f"--min_loss {self.options.min_loss} is over --max_loss {self.options.max_loss}")
        if min(self.options.max_tokens, self.options.tokens_per_batch or 1) < 1:
            raise UserError("--max_tokens and --tokens_per_batch must be at least 1")

    def fingerprint(self) -> str:
        texts = [(TEMPLATES / f"{name}.txt").read_text(encoding="utf-8") for name in NAMES]
        prompts = hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
        return f"{model_fingerprint(self.options.model)} {prompts}"

    def setup(self, worker: Worker) -> None:
        import torch

        from data.production.language_model.causal_lm import CausalLM

        if worker.device == "cpu":
            torch.set_num_threads(worker.n_threads)
        self.use(CausalLM.load(self.options.model, worker.device, self.options.dtype))
        if why := self.lm.reads_whole:
            print(f"{self.options.model}: earlier speech is read anew for each clip, since {why}", file=sys.stderr)
        worker.note(reading="whole texts" if why else "shared blocks")

    def use(self, lm) -> None:
        """Work with a model that is loaded already, as benchmarks do."""
        self.lm, self._templates = lm, Templates(TEMPLATES)

    def process(self, records: list[Record]) -> list[list[Record]]:
        texts = {}
        for i, record in enumerate(records):
            if text := self.text(record):
                texts[i] = text
        losses = self.lm.losses(list(texts.values()), self.options.tokens_per_batch or self.lm.tokens_at_once)
        for i, loss in zip(texts, losses, strict=True):
            records[i].scores["lm_loss"] = round(loss, DECIMALS)
        return [[record] for record in records]

    def judge(self, record: Record) -> None:
        loss = record.scores["lm_loss"]
        if loss < self.options.min_loss:
            record.reject(self.name, "loss_too_low", f"loss {loss:.3f}, at least {self.options.min_loss:g}")
        elif loss > self.options.max_loss:
            record.reject(self.name, "loss_too_high", f"loss {loss:.3f}, at most {self.options.max_loss:g}")

    def teardown(self) -> None:
        self.lm = None

    def text(self, record: Record):
        """The record as the model reads it, or None where it is rejected."""
        if not record.text.strip():
            record.reject(self.name, "no_words", "nothing is said in it")
            return None
        limit = min(self.options.max_tokens, self.lm.max_tokens)
        said = record.previous.split()
        n_out = left_out(len(said) - limit, len(said), limit)
        while True:
            text = self._read(record, " ".join(said[n_out:]))
            over = len(text.ids) - limit
            if over <= 0:
                return text
            if n_out == len(said):
                record.reject(self.name, "too_long", f"{len(text.ids)} tokens without earlier speech, at most {limit}")
                return None
            n_out = left_out(n_out + -(-over * (len(said) - n_out) // text.n_given), len(said), limit)

    def _read(self, record: Record, previous: str):
        title = record.title.strip()
        if self.options.previous_in == "answer":
            return self.lm.text(self._request(title, ""), record.text, begun=previous)
        return self.lm.text(self._request(title, previous), record.text)

    def _request(self, title: str, previous: str) -> str:
        name = ("lm_loss_continue" if previous else "lm_loss_start") + ("" if title else "_untitled")
        return self._templates.fill(name, title=title, previous=previous)


def left_out(n: int, n_said: int, max_tokens: int) -> int:
    """How many of n_said words are left out where n must be: whole steps, so that clips of a long video begin alike."""
    step = max(1, max_tokens // CUTS)
    stepped = -(-max(n, 0) // step) * step
    return stepped if stepped < n_said else min(max(n, 0), n_said)


STAGE = LmLoss

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
