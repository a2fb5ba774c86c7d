"""How fast data/production/lm_loss.py is against one text at a time, and how close both are.

    python dev/bench/bench_lm_loss.py                        (--models Qwen2-1.5B --device cuda on a GPU)

"one at a time" is a plain loop on transformers, written here: a text's ids through the model, its logits of every
token, the mean cross-entropy of the transcript's; its ids are made before. "DynamicCache" is the same loop with the
library's key/value cache: what a text shares with the one before stays in it (`crop`). "the stage" is process, from
records on.
Each model is measured in turn, side by side on the same made clips, one row for each number of clips that a video has:
a clip says --words random words of a small vocabulary on average and is given a title and all that was said in its
video before.
Hardware: any; time: two minutes for the default models on one CPU core, whose own seconds are counted. Prints a
Markdown table.
"""

import random
import sys
import time
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch.nn import functional
from transformers import DynamicCache

from data.production.language_model.causal_lm import CausalLM, ScoredText
from data.production.lm_loss import LmLoss, LossOptions
from data.production.record import Record
from utils.arguments import parse_arguments
from utils.errors import run_command

NANO = "models/nano_checkpoint"
SIZES = {  # random weights: speed does not depend on what they are
    "tiny": {
        "vocab_size": 667,
        "hidden_size": 64,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "Qwen2-1.5B": {
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
    },
}
WORDS = "the red blue team striker passes ball across middle runs left side shoots goal wonderful strike saves it"


@dataclass
class LossBenchArguments:
    """What is compared."""

    models: list[str] = field(
        default_factory=lambda: [NANO, "tiny"],
        metadata={"help": "models, one table row each; tiny and Qwen2-1.5B are random ones of that size"},
    )
    clips_of_a_video: list[int] = field(
        default_factory=lambda: [1, 5, 10, 20], metadata={"help": "one table row each, for each model"}
    )
    previous_in: list[str] = field(
        default_factory=lambda: ["request", "answer"], metadata={"help": "as the stage's; one table row each"}
    )
    texts: int = field(default=240, metadata={"help": "clips, of as many videos as have them"})
    words: int = field(default=80, metadata={"help": "of a transcript, on average"})
    device: str = field(default="cpu", metadata={"help": "cpu or cuda"})
    dtype: str | None = field(default=None, metadata={"help": "as the stage's --dtype"})
    threads: int = field(default=1, metadata={"help": "CPU threads"})
    tokens_per_batch: int | None = field(default=None, metadata={"help": "as the stage's"})


def make_records(n: int, n_of_a_video: int, n_words: int) -> list[Record]:
    """Made clips, n_of_a_video of a video one after the other, each with all that was said before in its video."""
    draw, words = random.Random(0), WORDS.split()
    records = []
    for i in range(n):
        before = " ".join([records[-1].previous, records[-1].text]).strip() if i % n_of_a_video else ""
        said = draw.choices(words, k=draw.randint(n_words // 2, n_words * 3 // 2))
        timed = [(0.5 * k, 0.5 * k + 0.5, word) for k, word in enumerate(said)]
        title = f"{draw.choice(words)} against {draw.choice(words)}, {i // n_of_a_video}"
        records.append(Record(f"made#{i:04d}", title=title, words=timed, previous=before))
        if i % n_of_a_video:
            records[-1].title = records[-2].title
    return records


def load(name: str, arguments: LossBenchArguments) -> CausalLM:
    """A model by its name, or a random one of a size with the nano world's tokenizer."""
    if name not in SIZES:
        return CausalLM.load(name, arguments.device, arguments.dtype)
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    dtype = arguments.dtype or ("float32" if arguments.device == "cpu" else "bfloat16")
    with torch.device(arguments.device):
        model = Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **SIZES[name]))
    return CausalLM(model.to(getattr(torch, dtype)).eval(), AutoTokenizer.from_pretrained(NANO))


@torch.inference_mode()
def loss_alone(lm: CausalLM, text: ScoredText) -> float:
    """A text's loss as a plain loop computes it."""
    ids = torch.tensor([text.ids], device=lm.model.device)
    logits = lm.model(input_ids=ids, use_cache=False).logits[0].float()
    return functional.cross_entropy(logits[text.n_given - 1 : -1], ids[0, text.n_given :]).item()


class CroppedCacheLoss:
    """The loss of one text after the other behind the keys and values of what it shares with the one before."""

    def __init__(self, lm: CausalLM):
        self.model, self.cache, self.ids = lm.model, DynamicCache(), []

    @torch.inference_mode()
    def loss(self, text: ScoredText) -> float:
        """A text's loss."""
        pairs = zip(self.ids, text.ids[: text.n_given - 1], strict=False)
        n_shared = next((i for i, (ours, its) in enumerate(pairs) if ours != its), min(len(self.ids), text.n_given - 1))
        if n_shared < len(self.ids):
            self.cache.crop(n_shared - len(self.ids))
        device = self.model.device
        states = self.model.base_model(
            input_ids=torch.tensor([text.ids[n_shared:-1]], device=device),
            past_key_values=self.cache,
            use_cache=True,
            position_ids=torch.arange(n_shared, len(text.ids) - 1, device=device)[None],
        ).last_hidden_state[0]
        self.ids = text.ids[:-1]
        logits = self.model.get_output_embeddings()(states[text.n_given - 1 - n_shared :]).float()
        return functional.cross_entropy(logits, torch.tensor(text.ids[text.n_given :], device=device)).item()


def measure(name: str, lm: CausalLM, previous_in: str, n_of_a_video: int, arguments: LossBenchArguments) -> str:
    """One row of the table."""
    options = LossOptions(name, previous_in=previous_in, tokens_per_batch=arguments.tokens_per_batch)
    stage, plain = LmLoss(options), LmLoss(options)
    stage.use(lm)
    plain.use(CausalLM(lm.model, lm.tokenizer))  # what it has tokenized is not known to the other
    records = make_records(arguments.texts, n_of_a_video, arguments.words)
    texts = [plain.text(record) for record in records]
    n_tokens = sum(len(text.ids) for text in texts)
    loss_alone(lm, texts[0])
    stage.process(records[:1])
    clock = time.process_time if arguments.device == "cpu" else time.perf_counter  # the machine may be busy
    started = clock()
    alone = [loss_alone(lm, text) for text in texts]
    turned = clock()
    cropping = CroppedCacheLoss(lm)
    cropped = [cropping.loss(text) for text in texts]
    cropped_at = clock()
    for first in range(0, len(records), stage.batch_size):
        stage.process(records[first : first + stage.batch_size])
    alone_s, cropped_s, stage_s = turned - started, cropped_at - turned, clock() - cropped_at
    staged = [record.scores["lm_loss"] for record in records]
    apart = [max(abs(ours - loss) for ours, loss in zip(some, alone, strict=True)) for some in (cropped, staged)]
    rates = " | ".join(f"{len(texts) / took_s:.1f}" for took_s in (alone_s, cropped_s, stage_s))
    ratios = f"{alone_s / cropped_s:.1f} | {alone_s / stage_s:.1f} | {apart[0]:.6f} | {apart[1]:.6f}"
    shape = f"{Path(name).stem} | {previous_in} | {n_of_a_video} | {n_tokens / len(texts):.0f}"
    return f"| {shape} | {rates} | {ratios} |"


def main() -> None:
    (arguments,) = parse_arguments(LossBenchArguments, description=__doc__.splitlines()[0])
    torch.set_num_threads(arguments.threads)
    rates = "tokens a text | one at a time, texts/s | DynamicCache, texts/s | the stage, texts/s"
    ratios = "DynamicCache, times | the stage, times | DynamicCache apart | the stage apart"
    print(f"| model | earlier speech in | clips of a video | {rates} | {ratios} |")
    print("|---" * 11 + "|")
    for name in arguments.models:
        lm = load(name, arguments)
        for previous_in, n_of_a_video in product(arguments.previous_in, arguments.clips_of_a_video):
            print(measure(name, lm, previous_in, n_of_a_video, arguments), flush=True)


if __name__ == "__main__":
    run_command(main)
