"""How well a language model foresees a text that answers a request: the mean loss of the text's tokens.

Texts are read in batches of nearly equal lengths. They are padded on the right and no mask is passed, since a causal
row never reaches what follows it; and the vocabulary's matrix is applied to the rows that are scored alone.

A product of matrices rounds differently with its shape, in bfloat16 enough to move a loss by 0.02. So that a text's
loss is its own, whatever else is read with it, the shapes depend on the text's length alone: each length has its width,
each width its number of rows, and rows that are missing in a batch are filled up. Equal shapes give equal rows, bit for
bit.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from data.production.model_files import local_model
from utils.errors import UserError

MARK = "WHAT IS ASKED"  # stands for the request while the chat format is read
WIDTH = 32  # tokens; a text is padded to 2, 3, 4, 6, 8, 12, 16, ... of them
HEAD_ROWS = 512  # given to the vocabulary's matrix at once
LOGITS = 1 << 27  # at most at once: 0.5 GB in float32
IMAGE_TEXT_MODELS = (
    "qwen2_vl",
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

    def text(self, request: str, answer: str) -> ScoredText:
        """A request and the answer to be scored, as ids; markup in either is plain text."""
        given = [*self._before, *self._plain(request.strip()), *self._after]
        return ScoredText([*given, *self._plain(answer)], len(given))

    def losses(self, texts: Sequence[ScoredText], tokens_per_batch: int) -> list[float]:
        """The mean loss of each text in nats a token; the same, bit for bit, whatever the other texts are."""
        losses = [0.0] * len(texts)
        for width, batch in batches_by_width([len(text.ids) for text in texts], tokens_per_batch):
            n_rows = max(1, tokens_per_batch // width)
            for i, loss in zip(batch, self._mean_losses([texts[i] for i in batch], n_rows, width), strict=True):
                losses[i] = loss
        return losses

    @torch.inference_mode()
    def _mean_losses(self, texts: Sequence[ScoredText], n_rows: int, width: int) -> list[float]:
        """The mean loss of each text, read as rows of ids [n_rows, width]."""
        ids = torch.zeros(n_rows, width, dtype=torch.long)
        for row, text in zip(ids, texts, strict=False):
            row[: len(text.ids)] = torch.tensor(text.ids)
        # The place before a token foresees it.
        places = [torch.arange(t.n_given - 1, len(t.ids) - 1) + i * width for i, t in enumerate(texts)]
        targets = [torch.tensor(text.ids[text.n_given :]) for text in texts]
        losses = self._token_losses(ids, torch.cat(places), torch.cat(targets)).double().cpu()
        return [float(part.mean()) for part in losses.split([len(target) for target in targets])]

    def _token_losses(self, ids: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        """Loss [N] of targets [N] after places [N] of ids [B, T], counted over the whole batch."""
        device = self.model.device
        ids, places, targets = ids.to(device), places.to(device), targets.to(device)
        if not self._head_is_plain:
            logits = self.model(input_ids=ids, use_cache=False).logits.flatten(0, 1)[places]
            return functional.cross_entropy(logits.float(), targets, reduction="none")
        hidden = self._hidden(ids).flatten(0, 1)
        n_rows = max(1, min(HEAD_ROWS, LOGITS // self._head.weight.shape[0]))
        losses = []
        for place, target in zip(places.split(n_rows), targets.split(n_rows), strict=True):
            rows = hidden[functional.pad(place, (0, n_rows - len(place)))]
            losses.append(functional.cross_entropy(self._head(rows)[: len(place)].float(), target, reduction="none"))
        return torch.cat(losses)

    @property
    def _head(self) -> torch.nn.Module:
        """What makes logits of hidden states."""
        return self.model.get_output_embeddings()

    def _hidden(self, ids: Tensor) -> Tensor:
        return self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state

    @functools.cached_property
    def _head_is_plain(self) -> bool:
        """Whether logits are the head's product and nothing else: some models scale or cap them."""
        ids = torch.arange(1, 9, device=self.model.device)[None]
        try:
            ours = self._head(self._hidden(ids)).float()
        except (AttributeError, TypeError):
            return False
        theirs = self.model(input_ids=ids, use_cache=False).logits.float()
        return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-3, atol=1e-3)

    def _plain(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] if text else []

    def _chat_ids(self) -> tuple[list[int], list[int]]:
        """The ids before and after a request, as the model's chat format has them."""
        if not self.tokenizer.chat_template:
            start = self.tokenizer.bos_token_id
            return [] if start is None else [start], self._plain("\n\n")
        said = [{"role": "user", "content": MARK}]
        before, after = self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True).split(MARK)
        return tuple(self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, after))


def padded_width(n_tokens: int) -> int:
    """To how many tokens a text is padded: 2 or 3 times a power of two times WIDTH, so by 20 % on average."""
    width = 2 * WIDTH
    while width < n_tokens:
        width *= 2
    return width // 4 * 3 if width > 2 * WIDTH and width // 4 * 3 >= n_tokens else width


def batches_by_width(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[tuple[int, list[int]]]:
    """(width, numbers of texts): those of one width together, at most tokens_per_batch with their padding, or one."""
    by_width: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        by_width.setdefault(padded_width(length), []).append(i)
    for width, numbers in sorted(by_width.items()):
        n_rows = max(1, tokens_per_batch // width)
        for first in range(0, len(numbers), n_rows):
            yield width, numbers[first : first + n_rows]
