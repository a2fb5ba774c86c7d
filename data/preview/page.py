"""The preview as an HTML page: each step's frames beside its words, in one file that works offline.

Texts come from strangers: the template escapes all of them, and the page's policy allows no script and no address.
"""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from PIL import Image

from data.preview.model_view import TurnView, view_turns
from data.samples.annotations import Sample
from data.samples.conversation import IGNORED, ChatFormat
from data.samples.encoder import Example
from utils.pages import page_template

THUMBNAIL_PIXELS = 168  # longest side
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE, TEMPLATE = Path(__file__).with_name("page.css"), Path(__file__).with_name("page.html")


class PreviewPage:
    """Writes samples to a page as they come."""

    def __init__(self, file: TextIO, chat: ChatFormat, title: str, facts: dict[str, str]):
        self.file, self.chat, self.title, self.facts = file, chat, title, facts
        self.template: Any = page_template(TEMPLATE, thumbnail=thumbnail).module

    def __enter__(self) -> "PreviewPage":
        style = STYLE.read_text(encoding="utf-8")
        self.file.write(self.template.head(self.title, Path(self.title).name, self.facts, POLICY, style))
        return self

    def __exit__(self, *exception) -> None:
        self.file.write(self.template.foot())

    def add(self, sample: Sample, example: Example) -> None:
        """Write one sample."""
        turns, n_tokens = view_turns(example, self.chat), len(example.input_ids)
        n_trained = int((example.labels != IGNORED).sum())
        n_visual = sum(block.n_tokens for turn in turns for block in turn.blocks)
        counts = {"visual": n_visual, "given": n_tokens - n_trained - n_visual, "trained": n_trained}
        groups = [_row(group) for group in _grouped(turns)]
        self.file.write(self.template.sample(sample, counts, n_tokens, groups, turns, example.counts))


def _grouped(turns: Sequence[TurnView]) -> list[list[TurnView]]:
    """A user's turn and the answer to it share a row."""
    groups: list[list[TurnView]] = []
    for turn in turns:
        if turn.role == "assistant" and groups and groups[-1][-1].role == "user":
            groups[-1].append(turn)
        else:
            groups.append([turn])
    return groups


def _row(turns: Sequence[TurnView]) -> dict:
    """What the template shows of turns that share a row."""
    return {
        "turns": turns,
        "n_tokens": sum(turn.n_tokens for turn in turns),
        "n_visual": sum(block.n_tokens for turn in turns for block in turn.blocks),
        "positions": (min(turn.positions[0] for turn in turns), max(turn.positions[1] for turn in turns)),
    }


def thumbnail(frame: torch.Tensor) -> str:
    """Encode a frame, uint8 [3, H, W], as a small JPEG in a data address."""
    image = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
