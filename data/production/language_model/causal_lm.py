"""How well a language model foresees a text that answers a request: the mean loss of the text's tokens.

What texts begin with is read once (block_reader.py). Texts with a short request, and all texts of models
that cannot go on behind a cache, are read by themselves in batches of nearly equal lengths. They are padded on the
right and no mask is passed, since a causal row never reaches what follows it. The vocabulary's matrix is applied to the
rows that are scored alone.

A product of matrices rounds differently with its shape, in bfloat16 enough to move a loss by 0.02. So that a text's
loss is its own, whatever else is read with it, the shapes depend on the text alone: each length has its width, each
width its number of rows, and rows that are missing in a batch are filled up. Equal shapes give equal rows, bit for bit.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from data.production.language_model.block_reader import WIDTH as BLOCK
from data.production.language_model.block_reader import Asked, BlockReader
from data.production.model_files import local_model
from utils.errors import UserError

MARK = "WHAT IS ASKED"  # stands for the request while the chat format is read
WIDTH = 32  # tokens; a text is padded to a multiple of them
MIN_SHARED = 2 * BLOCK  # tokens of a request; in shorter ones there is little that several could share
HEAD_ROWS = 512  # given to the vocabulary's matrix at once
PIECE = 256  # characters at least that are tokenized at once, and looked up
PIECES_KEPT = 4096
SPEECH = (
    "so it's 10 to 3 now and here they come again, don't they? \u2013 yes! what a m\u00eal\u00e9e: \u4f60\u597d 7-7."
)
LOGITS = 1 << 27  # at most at once: 0.5 GB in float32
IMAGE_TEXT_MODELS = (
    "qwen2_vl",
    "qwen2_5_vl",
)  # read without pictures they are causal LMs; transformers has them under another class


@dataclass(frozen=True)
class ScoredText:
    """Token ids of a request in chat form, then of the text; the loss is that of ids[n_given:]."""

    ids: list[int]
    n_given: int


class CausalLM:
    """Any causal language model of transformers and its tokenizer; models without a chat format get plain text."""

    def __init__(self, model: Any, tokenizer: Any):
        self.model, self.tokenizer = model, tokenizer
        self._ids_of = functools.lru_cache(PIECES_KEPT)(self._ids)
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

    def text(self, request: str, answer: str, begun: str = "") -> ScoredText:
        """A request and the answer to be scored, as ids; markup in either is plain text. begun: the answer's beginning,
        which is given."""
        given = [*self._before, *self._plain(request.strip()), *self._after, *self._plain(begun)]
        return ScoredText([*given, *self._plain(f" {answer}" if begun else answer)], len(given))

    def losses(self, texts: Sequence[ScoredText], tokens_per_batch: int) -> list[float]:
        """The mean loss of each text in nats a token; the same, bit for bit, whatever the other texts are."""
        counts = [len(text.ids) - text.n_given for text in texts]
        targets = torch.tensor([i for text in texts for i in text.ids[text.n_given :]])
        # The place before a token foresees it, and nothing is foreseen behind the last one.
        numbers = itertools.accumulate(counts, initial=0)
        asked = [Asked(text.ids[:-1], text.n_given - 1, number) for text, number in zip(texts, numbers, strict=False)]
        shared, whole = [], []
        for text in asked:
            (whole if self.reads_whole or text.first < MIN_SHARED else shared).append(text)
        losses = torch.empty(len(targets), dtype=torch.float64)
        for read, some in ((self._read_whole, whole), (self._read_shared, shared)):
            for found, rows in rows_of(HEAD_ROWS, read(some, tokens_per_batch)):
                losses[found] = self._row_losses(rows, targets[found]).double().cpu()
        return [float(part.mean()) for part in losses.split(counts)]

    @functools.cached_property
    def reads_whole(self) -> str:
        """Why all texts are read by themselves; "" where what they begin with is shared."""
        if not self._head_is_plain:
            return "its logits are more than a product of its hidden states"
        return self._reader.refused

    @functools.cached_property
    def _reader(self) -> BlockReader:
        return BlockReader(self.model, self.max_tokens)

    def _read_shared(self, texts: Sequence[Asked], tokens_per_batch: int) -> Iterator[tuple[list[int], Tensor]]:
        """(numbers, hidden states [N, C]) of what is asked for."""
        return self._reader.read(texts, tokens_per_batch)

    @torch.inference_mode()
    def _read_whole(self, texts: Sequence[Asked], tokens_per_batch: int) -> Iterator[tuple[list[int], Tensor]]:
        """The same from texts that are read by themselves; logits where the model's are more than its head's."""
        read = self._hidden if self._head_is_plain else self._logits
        for width, batch in batches_by_width([len(text.ids) for text in texts], tokens_per_batch):
            ids = torch.zeros(max(1, tokens_per_batch // width), width, dtype=torch.long)
            places, numbers = [], []
            for row, text in enumerate(texts[i] for i in batch):
                ids[row, : len(text.ids)] = torch.tensor(text.ids)
                places.extend(range(row * width + text.first, row * width + len(text.ids)))
                numbers.extend(range(text.number, text.number + len(text.ids) - text.first))
            yield numbers, read(ids.to(self.model.device)).flatten(0, 1)[torch.tensor(places).to(self.model.device)]

    @torch.inference_mode()
    def _row_losses(self, rows: Tensor, targets: Tensor) -> Tensor:
        """Loss [N] of targets [N] after rows [N, C] of hidden states, or of logits."""
        targets = targets.to(rows.device)
        if not self._head_is_plain:
            return functional.cross_entropy(rows.float(), targets, reduction="none")
        n_rows = max(1, min(HEAD_ROWS, LOGITS // self._head.weight.shape[0]))
        losses = []
        for part, target in zip(rows.split(n_rows), targets.split(n_rows), strict=True):
            logits = self._head(functional.pad(part, (0, 0, 0, n_rows - len(part))))[: len(part)]
            losses.append(functional.cross_entropy(logits.float(), target, reduction="none"))
        return torch.cat(losses)

    @property
    def _head(self) -> torch.nn.Module:
        """What makes logits of hidden states."""
        return self.model.get_output_embeddings()

    def _hidden(self, ids: Tensor) -> Tensor:
        return self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    def _logits(self, ids: Tensor) -> Tensor:
        return self.model(input_ids=ids, use_cache=False).logits

    @functools.cached_property
    def _head_is_plain(self) -> bool:
        """Whether logits are the head's product and nothing else: some models scale or cap them."""
        ids = torch.arange(1, 9, device=self.model.device)[None]
        try:
            ours = self._head(self._hidden(ids)).float()
        except (AttributeError, TypeError):
            return False
        theirs = self._logits(ids).float()
        return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)

    def _plain(self, text: str) -> list[int]:
        """Ids of a text, piece by piece where that gives the same: what texts begin with is looked up."""
        parts = pieces(text) if self._reads_pieces else [text]
        return [i for part in parts for i in self._ids_of(part)]

    @functools.cached_property
    def _reads_pieces(self) -> bool:
        """Whether the ids of a text are those of its pieces: not where a tokenizer marks the start of what it gets."""
        whole = self._ids(SPEECH)
        return whole == [i for part in pieces(SPEECH, 16) for i in self._ids(part)]

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] if text else []

    def _chat_ids(self) -> tuple[list[int], list[int]]:
        """The ids before and after a request, as the model's chat format has them."""
        if not self.tokenizer.chat_template:
            start = self.tokenizer.bos_token_id
            return [] if start is None else [start], self._plain("\n\n")
        said = [{"role": "user", "content": MARK}]
        before, after = self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True).split(MARK)
        return tuple(self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, after))


def rows_of(n_rows: int, parts: Iterable[tuple[list[int], Tensor]]) -> Iterator[tuple[list[int], Tensor]]:
    """The same (numbers, rows [N, C]) in parts of n_rows rows; the last part may have fewer."""
    numbers, kept, n_kept = [], [], 0
    for some, rows in parts:
        numbers.extend(some)
        kept.append(rows)
        n_kept += len(rows)
        if n_kept < n_rows:
            continue
        *full, rest = torch.cat(kept).split(n_rows)
        for rows in full if len(rest) < n_rows else [*full, rest]:
            yield numbers[: len(rows)], rows
            numbers = numbers[len(rows) :]
        kept, n_kept = ([rest], len(rest)) if len(rest) < n_rows else ([], 0)
    if numbers:
        yield numbers, torch.cat(kept)


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """Parts of a text of at least `size` characters, but for the last; all but the first begin with a single space.

    Where a text begins like another one, so do their parts.
    """
    start = 0
    while start < len(text):
        end = text.find(" ", start + size)
        while end > 0 and (text[end - 1].isspace() or text[end + 1 : end + 2].isspace()):
            end = text.find(" ", end + 1)
        yield text[start : end if end > 0 else len(text)]
        start = end if end > 0 else len(text)


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
