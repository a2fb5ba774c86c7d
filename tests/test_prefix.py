"""A shared prefix is exact: what is asked after other questions has the logits of a prompt read alone."""

import itertools

import pytest
import torch

from data.samples.conversation import Turn
from data.samples.positions import POSITION_MODES, position_ids
from models.load import load_checkpoint
from models.streaming.prefix import PrefixReader, common_length
from models.streaming.requests import VisionRequest

QUESTIONS = ("Who has the ball?", "Who wins?", "Words of the match. Who has the ball?", "Words of the match. Who wins?")


@pytest.fixture(scope="module", params=POSITION_MODES)
def checkpoint(request, tiny_checkpoint):
    return load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32", position_mode=request.param)


@pytest.fixture(scope="module")
def clip(checkpoint):
    frames = torch.randint(0, 256, (10, 3, 56, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return checkpoint.batch.execute([VisionRequest(frames)])[0]


def prompt(checkpoint, block, question: str) -> list[int]:
    chat = checkpoint.chat
    return [*chat.system_ids(), *chat.turn_ids(Turn("user", [block, question])), *chat.header_ids("assistant")]


@torch.inference_mode()
def in_one_pass(checkpoint, block, features, ids: list[int]) -> torch.Tensor:
    """Logits of the model's own forward pass over the whole prompt."""
    input_ids, chat = torch.tensor(ids), checkpoint.chat
    pads = {"image": chat.image_pad, "video": chat.video_pad}
    positions = position_ids(input_ids, [block], checkpoint.position_mode, pads)
    hidden = checkpoint.model.hidden_states(checkpoint.model.embed(input_ids[None], features), positions[:, None])
    return checkpoint.model.lm_head(hidden[0, -1])


def test_shared_logits_are_those_of_one_pass(checkpoint, clip):
    reader = PrefixReader(checkpoint, *clip)
    for question in QUESTIONS:
        ids = prompt(checkpoint, clip[0], question)
        torch.testing.assert_close(reader.logits(ids), in_one_pass(checkpoint, *clip, ids), atol=1e-4, rtol=1e-4)


def test_the_order_of_questions_does_not_matter(checkpoint, clip):
    alone = {q: PrefixReader(checkpoint, *clip).logits(prompt(checkpoint, clip[0], q)) for q in QUESTIONS}
    for order in itertools.permutations(QUESTIONS):
        reader = PrefixReader(checkpoint, *clip)
        for question in order:
            logits = reader.logits(prompt(checkpoint, clip[0], question))
            torch.testing.assert_close(logits, alone[question], atol=1e-4, rtol=1e-4)


def test_pieces_of_a_long_prompt_are_exact(checkpoint, clip, monkeypatch):
    ids = prompt(checkpoint, clip[0], QUESTIONS[0])
    whole = PrefixReader(checkpoint, *clip).logits(ids)
    for n in (1, 7, 16):  # shorter than the block of visual tokens, so that it is cut
        monkeypatch.setattr("models.streaming.prefix.CHUNK_TOKENS", n)
        torch.testing.assert_close(PrefixReader(checkpoint, *clip).logits(ids), whole, atol=1e-4, rtol=1e-4)


def test_only_what_differs_is_read(checkpoint, clip):
    reader = PrefixReader(checkpoint, *clip)
    first, second = (prompt(checkpoint, clip[0], question) for question in QUESTIONS[:2])
    reader.logits(first)
    reader.logits(second)
    shared = common_length(first, second)
    assert shared > clip[0].n_tokens and reader.n_prefilled == len(first) + len(second) - shared
    reader.logits(second)
    assert reader.n_prefilled == len(first) + len(second) - shared + 1


def test_written_answers_share_the_prefix(checkpoint, clip):
    reader, chat = PrefixReader(checkpoint, *clip), checkpoint.chat
    for question in QUESTIONS:
        ids = prompt(checkpoint, clip[0], question)
        said = reader.write(ids, 6)
        for n in range(len(said) + 1):
            if n == 6:
                break
            logits = in_one_pass(checkpoint, *clip, [*ids, *said[:n]]).clone()
            logits[[chat.video_pad, chat.image_pad]] = -torch.inf
            best = int(logits.argmax())
            assert best in checkpoint.eos_ids if n == len(said) else best == said[n]
