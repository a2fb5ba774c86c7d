"""How well a language model foresees a text that answers a request: the mean loss of the text's tokens.

On a CPU, what texts begin with is read once (block_reader.py). On a GPU, and with models that cannot go on behind a
cache, texts are read whole, in batches of nearly equal lengths. They are padded on the right and no mask is passed,
since a causal row never reaches what follows it. The vocabulary's matrix is applied to the rows that are scored alone.

A product of matrices rounds differently with its shape, in bfloat16 enough to move a loss by 0.02. So that a text's
loss is its own, whatever else is read with it, the shapes depend on the text alone: in batches each length has its
width, each width its number of rows, and missing rows are filled up. Equal shapes give equal rows, bit for bit.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from data.production.language_model.block_reader import BlockReader
from data.production.model_files import local_model
from utils.errors import UserError

MARK = "WHAT IS ASKED"  # stands for the request while the chat format is read
WIDTH = 32  # tokens; a text is padded to a multiple of them
LOGITS = 1 << 27  # at most at once: 0.5 GB in float32
IMAGE_TEXT_MODELS = (
    "qwen2_vl",
    "qwen2_5_vl",
)  # read without pictures they are causal LMs; transformers has them under another class


@dataclass(frozen=True)
class ScoredText:
    """Token ids of a request in chat form, then of the text; the loss is that of ids[n_given:].

    n_common: of the ids that other texts may begin with.
    """

    ids: list[int]
    n_given: int
    n_common: int


class CausalLM:
    """Any causal language model of transformers and its tokenizer; models without a chat format get plain text."""

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer
        self._before, self._after = self._chat_ids()

    @classmethod
    def load(cls, name: str, device: str = "cpu", dtype: str | None = None) -> "CausalLM":
        """Load a hub id, a folder, or a GGUF file. dtype: default bfloat16 on a GPU, else float32. Raises UserError."""
        import transformers

        path = local_model(name)
        is_gguf = path is not None and path.suffix == ".gguf"
        source = str(path.parent) if is_gguf else name
        file = {"gguf_file": path.name} if is_gguf else {}
        dtype = dtype or ("bfloat16" if device.startswith("cuda") else "float32")
        try:
            kind = "llama" if is_gguf else transformers.AutoConfig.from_pretrained(source).model_type
            is_image_text = kind in IMAGE_TEXT_MODELS
            auto = transformers.AutoModelForImageTextToText if is_image_text else transformers.AutoModelForCausalLM
            model = auto.from_pretrained(source, dtype=getattr(torch, dtype), attn_implementation="sdpa", **file)
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **file)
        except (OSError, ValueError, ImportError, AttributeError) as error:
            raise UserError(f"{name}: cannot be loaded as a language model ({error}); check the name") from error
        return cls(model.to(device).eval(), tokenizer)

    @property
    def max_tokens(self) -> int:
        """How many tokens the model was made for."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 1 << 30

    @property
    def tokens_at_once(self) -> int:
        """How many tokens are best read at once: on a CPU the caches should hold what is worked on."""
        return 4096 if self.model.device.type == "cuda" else 128

    def text(self, request: str, answer: str, begun: str | None = None) -> ScoredText:
        """A request and the answer to be scored, as ids; markup in either is plain text.

        begun: the answer's beginning, which is given, where other texts may go on behind this answer.
        """
        given = [*self._before, *self._ids(request.strip()), *self._after, *self._ids(begun or "")]
        ids = [*given, *self._ids(f" {answer}" if begun else answer)]
        return ScoredText(ids, len(given), len(given) - len(self._after) if begun is None else len(ids))

    def losses(self, texts: Sequence[ScoredText], tokens_per_batch: int) -> list[float]:
        """The mean loss of each text in nats a token; the same, bit for bit, whatever the other texts are.

        tokens_per_batch: how many tokens of texts that are read whole are read at once; it decides the last bits.
        """
        read = self._read_whole(texts, tokens_per_batch) if self.reads_whole else self._read_shared(texts)
        losses = {i: self._loss(rows, texts[i].ids[texts[i].n_given :]) for i, rows in read}
        return [losses[i] for i in range(len(texts))]

    @functools.cached_property
    def reads_whole(self) -> str:
        """Why all texts are read by themselves; "" where what they begin with is shared."""
        if self.model.device.type != "cpu":
            return "a GPU is faster at several texts at once"
        if not self._head_is_plain:
            return "its logits are more than a product of its hidden states"
        return self._reader.refused

    @functools.cached_property
    def _reader(self) -> BlockReader:
        return BlockReader(self.model)

    def _read_shared(self, texts: Sequence[ScoredText]) -> Iterator[tuple[int, Tensor]]:
        """(number of a text, hidden states [N, C] of the places before what is scored): a place foresees the next."""
        # In the order of their ids, each text follows the one with which it shares most.
        for i in sorted(range(len(texts)), key=lambda i: texts[i].ids):
            text = texts[i]
            yield i, self._reader.read(text.ids[:-1], text.n_given - 1, min(text.n_common, len(text.ids) - 1))

    @torch.inference_mode()
    def _read_whole(self, texts: Sequence[ScoredText], tokens_per_batch: int) -> Iterator[tuple[int, Tensor]]:
        """The same from texts that are read by themselves; logits where the model's are more than its head's."""
        read = self._hidden if self._head_is_plain else self._logits
        for width, batch in batches_by_width([len(text.ids) - 1 for text in texts], tokens_per_batch):
            ids = torch.zeros(max(1, tokens_per_batch // width), width, dtype=torch.long)
            for row, i in enumerate(batch):
                ids[row, : len(texts[i].ids) - 1] = torch.tensor(texts[i].ids[:-1])
            for i, states in zip(batch, read(ids.to(self.model.device)), strict=False):
                yield i, states[texts[i].n_given - 1 : len(texts[i].ids) - 1]

    @torch.inference_mode()
    def _loss(self, rows: Tensor, targets: list[int]) -> float:
        """Mean loss of targets after rows [N, C] of hidden states, or of logits."""
        n_rows = max(1, LOGITS // self._head.weight.shape[0])
        losses = []
        for part, some in zip(rows.split(n_rows), torch.tensor(targets, device=rows.device).split(n_rows), strict=True):
            logits = self._head(part) if self._head_is_plain else part
            losses.append(functional.cross_entropy(logits.float(), some, reduction="none").double())
        return float(torch.cat(losses).mean())

    @property
    def _head(self) -> torch.nn.Module:
        """What makes logits of hidden states."""
        return self.model.get_output_embeddings()

    def _hidden(self, ids: Tensor) -> Tensor:
        return self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    def _logits(self, ids: Tensor) -> Tensor:
        return self.model(input_ids=ids, use_cache=False).logits

    @functools.cached_property
    @torch.inference_mode()
    def _head_is_plain(self) -> bool:
        """Whether logits are the head's product and nothing else: some models scale or cap them."""
        ids = torch.arange(1, 9, device=self.model.device)[None]
        try:
            ours = self._head(self._hidden(ids)).float()
        except (AttributeError, TypeError):
            return False
        theirs = self._logits(ids).float()
        return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] if text else []

    def _chat_ids(self) -> tuple[list[int], list[int]]:
        """The ids before and after a request, as the model's chat format has them."""
        if not self.tokenizer.chat_template:
            start = self.tokenizer.bos_token_id
            return [] if start is None else [start], self._ids("\n\n")
        said = [{"role": "user", "content": MARK}]
        before, after = self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True).split(MARK)
        return tuple(self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, after))


def padded_width(n_tokens: int) -> int:
    """To how many tokens a text is padded: by less than WIDTH up to 16 of them, then to 2 or 3 times a power of two."""
    if n_tokens <= 16 * WIDTH:
        return -(-n_tokens // WIDTH) * WIDTH
    width = 32 * WIDTH
    while width < n_tokens:
        width *= 2
    return width // 4 * 3 if width // 4 * 3 >= n_tokens else width


def batches_by_width(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[tuple[int, list[int]]]:
    """(width, numbers of texts): those of one width together, at most tokens_per_batch with their padding, or one."""
    by_width: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        by_width.setdefault(padded_width(length), []).append(i)
    for width, numbers in sorted(by_width.items()):
        n_rows = max(1, tokens_per_batch // width)
        for first in range(0, len(numbers), n_rows):
            yield width, numbers[first : first + n_rows]
