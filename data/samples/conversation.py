"""Turns to token ids and label masks: the only place that writes Qwen2-VL's chat markup.

Markup is written as ids and text is tokenised as plain text, so nothing that a user types becomes markup, and
what is trained on is known without a search through the text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from transformers import PreTrainedTokenizerBase

from data.samples.elements import ROLES, Role
from data.samples.patches import grid_tokens
from data.samples.questions import Question
from data.samples.words import SILENCE, step_label, step_window
from utils.errors import UserError

IGNORED = -100  # label of a token that is not trained on (torch's cross entropy skips it)
DEFAULT_SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True)
class VisualBlock:
    """One image, or the frames of one video or step, in a turn.

    grid_thw counts patches: (t, h, w). time_step: positions between two grids of time (data/samples/families.py).
    """

    kind: Literal["image", "video"]
    grid_thw: tuple[int, int, int]
    time_step: float = 1.0

    @property
    def n_tokens(self) -> int:
        """Visual tokens of the block after 2 x 2 patches were merged."""
        return grid_tokens(self.grid_thw)


@dataclass(frozen=True)
class Turn:
    """A message of the conversation: pieces of text and visual blocks in order. Only text for the assistant."""

    role: Role
    parts: list[str | VisualBlock]


@dataclass(frozen=True)
class Encoded:
    """A conversation as token ids, labels (the ids trained on, else -100) and its visual blocks in order."""

    input_ids: list[int]
    labels: list[int]
    blocks: list[VisualBlock]


def stream_turns(
    blocks: Sequence[VisualBlock],
    texts: Sequence[str],
    query: str,
    asked: Mapping[int, Sequence[Question]] = MappingProxyType({}),
) -> list[Turn]:
    """The turns of a stream: per step its label, its frames and, first, the query; then its speech.

    blocks: one per step; texts: what is said at each step, " ..." included. An empty query adds nothing. asked:
    questions by the step after which they are turns of text, with their answers, as a session writes them that
    remembers its questions.
    """
    turns = []
    for step, (block, text) in enumerate(zip(blocks, texts, strict=True)):
        parts: list[str | VisualBlock] = [step_label(*step_window(step)), block]
        if step == 0 and query:
            parts.append(query)
        turns += [Turn("user", parts), Turn("assistant", [text])]
        for question in asked.get(step, ()):
            turns += [Turn("user", [question.question]), Turn("assistant", [question.answer])]
    return turns


class ChatFormat:
    """Qwen2-VL's chat format over one tokenizer.

    Special ids are attributes: im_start, im_end, vision_start, vision_end, image_pad, video_pad, silence (the
    single token " ..."), pad, and eos_ids, any of which ends an answer. Raises UserError for a tokenizer that
    lacks one of them, that splits " ..." or that cannot read markup as plain text.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.name = tokenizer.name_or_path
        vocabulary = tokenizer.get_vocab()
        self.im_start = self._special_id(vocabulary, "<|im_start|>")
        self.im_end = self._special_id(vocabulary, "<|im_end|>")
        self.vision_start = self._special_id(vocabulary, "<|vision_start|>")
        self.vision_end = self._special_id(vocabulary, "<|vision_end|>")
        self.image_pad = self._special_id(vocabulary, "<|image_pad|>")
        self.video_pad = self._special_id(vocabulary, "<|video_pad|>")
        end_of_text = self._special_id(vocabulary, "<|endoftext|>")
        self.pad = end_of_text if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.eos_ids = (self.im_end, end_of_text)
        self.markup_ids = frozenset(
            (self.im_start, self.im_end, self.vision_start, self.vision_end, self.image_pad, self.video_pad)
        )
        self._require_plain_text()
        self.silence = self._silence_id()
        self._newline = self.text_ids("\n")
        self._headers = {role: [self.im_start, *self.text_ids(f"{role}\n")] for role in ROLES}
        # A word such as "...and" within speech would hold the token " ..."; it is spelled with these instead.
        self._spelled_silence = self.text_ids(" ") + self.text_ids(SILENCE.strip())

    def text_ids(self, text: str) -> list[int]:
        """Token ids of plain text; markup in it stays plain text."""
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] if text else []

    def speech_ids(self, text: str) -> list[int]:
        """Token ids of speech; the token " ..." stands at the end of speech and nowhere else."""
        if not text.endswith(SILENCE):
            return self.text_ids(text)
        ids: list[int] = []
        for token in self.text_ids(text[: -len(SILENCE)]):
            ids += self._spelled_silence if token == self.silence else [token]
        return [*ids, self.silence]

    def block_ids(self, block: VisualBlock) -> list[int]:
        """<|vision_start|>, one pad per visual token, <|vision_end|>."""
        pad = self.image_pad if block.kind == "image" else self.video_pad
        return [self.vision_start] + [pad] * block.n_tokens + [self.vision_end]

    def header_ids(self, role: Role) -> list[int]:
        """<|im_start|>role and a newline, tokenised apart from the text that follows."""
        return self._headers[role]

    def closing_ids(self) -> list[int]:
        """<|im_end|> and a newline."""
        return [self.im_end, *self._newline]

    def content_ids(self, turn: Turn) -> list[int]:
        """Ids of a turn's text and blocks, without its header and closing."""
        to_ids = self.speech_ids if turn.role == "assistant" else self.text_ids
        ids: list[int] = []
        for part in _joined(turn.parts):
            ids += to_ids(part) if isinstance(part, str) else self.block_ids(part)
        return ids

    def turn_ids(self, turn: Turn) -> list[int]:
        """Ids of a whole turn: header, content, closing."""
        return self.header_ids(turn.role) + self.content_ids(turn) + self.closing_ids()

    def system_ids(self, text: str | None = None) -> list[int]:
        """The system turn, by default Qwen2-VL's own."""
        return self.turn_ids(Turn("system", [DEFAULT_SYSTEM if text is None else text]))

    def encode(self, turns: Sequence[Turn], default_system: bool = True) -> Encoded:
        """Ids, labels and blocks of a conversation, after the default system turn unless it brings its own.

        Trained on: the assistant's text and its <|im_end|>; not the newline after it, not the header.
        """
        ids: list[int] = []
        labels: list[int] = []
        for turn in _with_system(turns, default_system):
            header, content, closing = self.header_ids(turn.role), self.content_ids(turn), self.closing_ids()
            ids += header + content + closing
            trained = [*content, self.im_end] if turn.role == "assistant" else []
            labels += [IGNORED] * len(header) + trained
            labels += [IGNORED] * (len(ids) - len(labels))
        blocks = [part for turn in turns for part in turn.parts if isinstance(part, VisualBlock)]
        return Encoded(ids, labels, blocks)

    def chat_text(self, turns: Sequence[Turn], default_system: bool = True) -> str:
        """The conversation as text for people: one pad token stands for a whole block."""
        return "".join(
            f"<|im_start|>{turn.role}\n{''.join(map(_part_text, turn.parts))}<|im_end|>\n"
            for turn in _with_system(turns, default_system)
        )

    def decode(self, ids: Sequence[int]) -> str:
        """Generated ids as text, without markup."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _special_id(self, vocabulary: dict[str, int], token: str) -> int:
        token_id = vocabulary.get(token)
        if token_id is None:
            raise UserError(
                f"tokenizer {self.name!r} has no token {token}, so it is not one of Qwen2-VL; "
                "give the folder or hub id of a Qwen2-VL checkpoint"
            )
        return token_id

    def _require_plain_text(self) -> None:
        probe = "<|im_start|>a<|im_end|><|vision_start|><|image_pad|><|video_pad|><|vision_end|>"
        leaked = self.tokenizer.convert_ids_to_tokens(sorted(self.markup_ids.intersection(self.text_ids(probe))))
        if leaked:
            raise UserError(
                f"tokenizer {self.name!r} reads {' '.join(leaked)} in plain text as markup, so a user could "
                "forge turns; mark these tokens as special in tokenizer.json and use the fast version"
            )

    def _silence_id(self) -> int:
        ids = self.text_ids(SILENCE)
        if len(ids) != 1:
            raise UserError(
                f"tokenizer {self.name!r} splits {SILENCE!r} into {len(ids)} tokens; each step of a "
                "commentary ends with it as one token: use a tokenizer that has it as one"
            )
        return ids[0]


def _with_system(turns: Sequence[Turn], default_system: bool) -> list[Turn]:
    needs_one = default_system and (not turns or turns[0].role != "system")
    return [Turn("system", [DEFAULT_SYSTEM]), *turns] if needs_one else list(turns)


def _joined(parts: Sequence[str | VisualBlock]) -> list[str | VisualBlock]:
    """Neighbouring texts as one, so that they are tokenised as they read."""
    joined: list[str | VisualBlock] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        else:
            joined.append(part)
    return joined


def _part_text(part: str | VisualBlock) -> str:
    return part if isinstance(part, str) else f"<|vision_start|><|{part.kind}_pad|><|vision_end|>"
