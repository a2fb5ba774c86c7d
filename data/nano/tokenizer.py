"""The nano model's byte-level BPE tokenizer: some 600 tokens, in which every word of the world is one token."""

import re
from itertools import product

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import Qwen2TokenizerFast

from data.nano.commentator import NUMBERS, WORDINGS, ZONE_PHRASES
from data.nano.palette import KITS
from data.nano.questions import QUESTIONS
from data.nano.states import STATE_QUERY, STATE_WORDS
from data.samples.conversation import DEFAULT_SYSTEM
from data.samples.words import SILENCE

# Qwen2's own special tokens in their order.
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Whole strings that a stream repeats at every step; " ..." has to be one token for ChatFormat.
WHOLE = (SILENCE, "Time=", ".0-", ".0s")
# How Qwen2 splits text before it merges bytes (its tokenizer.json): words, single digits, runs of marks.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QUERIES = (
    "Please describe the video.",
    STATE_QUERY,
    *(text for wordings, reply in QUESTIONS.values() for text in (*wordings, re.sub(r" ?{\w+}", "", reply))),
)


def training_lines() -> list[str]:
    """Every word of the world, at the start of a line and inside it, often enough to become one token."""
    lines = [f"system\n{DEFAULT_SYSTEM}\nuser\n{' '.join(QUERIES)}\nassistant\n"] * 4
    for colour, zone in product(KITS, ZONE_PHRASES.values()):
        for wordings in WORDINGS.values():
            lines += [w.format(T=colour.capitalize(), t=colour, z=zone, s="nil one") for w in wordings]
    words = {word.strip(".,!?") for line in lines for word in line.split()}
    words |= {*NUMBERS, *STATE_WORDS, *KITS, "all"}
    for word in sorted(words):  # a step may begin with any word of a line
        lines += [word, f"a {word}"] * 30
    return lines


def train_tokenizer(n_tokens: int = 768) -> Qwen2TokenizerFast:
    """Train the tokenizer; `n_tokens` is the most it may have, special tokens included."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens - len(SPECIAL_TOKENS) - len(WHOLE),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=4,
        show_progress=False,
    )
    bpe.train_from_iterator(training_lines(), trainer)
    bpe.add_special_tokens(list(SPECIAL_TOKENS))
    bpe.add_tokens([AddedToken(text, normalized=False) for text in WHOLE])
    return Qwen2TokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token=None,
        bos_token=None,
        additional_special_tokens=list(SPECIAL_TOKENS[1:]),
        model_max_length=32768,
        split_special_tokens=False,
    )
