"""The preview as an HTML page: each step's frames beside its words, in one file that works offline.

Texts come from strangers: all of them are escaped, and the page's policy allows no script and no address.
"""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TextIO

import torch
from PIL import Image

from data.preview.model_view import BlockView, TextView, TurnView, view_turns
from data.samples.annotations import Sample
from data.samples.conversation import IGNORED, ChatFormat
from data.samples.encoder import Example

THUMBNAIL_PIXELS = 168  # longest side
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = Path(__file__).with_name("page.css")


class PreviewPage:
    """Writes samples to a page as they come."""

    def __init__(self, file: TextIO, chat: ChatFormat, title: str, facts: dict[str, str]):
        self.file, self.chat, self.title, self.facts = file, chat, title, facts

    def __enter__(self) -> "PreviewPage":
        facts = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in self.facts.items())
        self.file.write(f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Preview of {escape(Path(self.title).name)}</title>
<style>{STYLE.read_text(encoding="utf-8")}</style></head><body>
<header><h1>What the model will see</h1><p class="path">{escape(self.title)}</p>
<dl class="facts">{facts}</dl>
<p class="legend"><span class="key trained">trained on</span><span class="key given">given as text</span>
<span class="key visual">visual</span></p></header>
<main>
""")
        return self

    def __exit__(self, *exception) -> None:
        self.file.write("</main></body></html>\n")

    def add(self, sample: Sample, example: Example) -> None:
        """Write one sample."""
        turns = view_turns(example, self.chat)
        rows = "".join(_row(group) for group in _grouped(turns))
        self.file.write(f"""<section id="sample-{sample.index}">
<h2>Sample {sample.index} <small>line {sample.line_no}</small></h2>
{_stats(example, turns)}
<div class="rows">{rows}</div>
<details><summary>Tokens</summary><div class="tokens">{_tokens(turns)}</div></details>
</section>
""")


def _grouped(turns: Sequence[TurnView]) -> list[list[TurnView]]:
    """A user's turn and the answer to it share a row."""
    groups: list[list[TurnView]] = []
    for turn in turns:
        if turn.role == "assistant" and groups and groups[-1][-1].role == "user":
            groups[-1].append(turn)
        else:
            groups.append([turn])
    return groups


def _stats(example: Example, turns: Sequence[TurnView]) -> str:
    n_trained = int((example.labels != IGNORED).sum())
    n_visual = sum(block.n_tokens for turn in turns for block in turn.blocks)
    n_text = len(example.input_ids) - n_trained - n_visual
    parts = [("visual", n_visual), ("given", n_text), ("trained", n_trained)]
    bar = "".join(f'<span class="{name}" style="flex-grow:{n}"></span>' for name, n in parts if n)
    names = {"visual": "visual tokens", "given": "text tokens given", "trained": "tokens trained on"}
    numbers = [(f"{len(example.input_ids):,}", "tokens")] + [(f"{n:,}", names[name]) for name, n in parts]
    counts = {name.replace("_", " "): n for name, n in example.counts.items()}
    cells = "".join(f"<div><b>{value}</b> {label}</div>" for value, label in numbers)
    notes = " \u00b7 ".join(f"{escape(name)} {n}" for name, n in counts.items())
    return f'<div class="bar">{bar}</div><div class="stats">{cells}</div><p class="notes">{notes}</p>'


def _row(turns: Sequence[TurnView]) -> str:
    blocks = [block for turn in turns for block in turn.blocks]
    film = "".join(_film(block) for block in blocks)
    says = "".join(_says(turn) for turn in turns)
    n_tokens, n_visual = sum(turn.n_tokens for turn in turns), sum(block.n_tokens for block in blocks)
    first, last = min(turn.positions[0] for turn in turns), max(turn.positions[1] for turn in turns)
    visual = f"<br>{n_visual:,} visual" if n_visual else ""
    side = f"{n_tokens:,} tokens{visual}<br>positions {first:,}\u2013{last:,}"
    cells = f'<div class="side">{side}</div><div class="film">{film}</div><div>{says}</div>'
    return f'<div class="row">{cells}</div>'


def _says(turn: TurnView) -> str:
    texts = "".join(map(_part, turn.parts))
    return f'<div class="turn {turn.role}"><span class="role">{turn.role}</span><p>{texts}</p></div>'


def _part(part: TextView | BlockView) -> str:
    if isinstance(part, BlockView):
        return f'<span class="visual">{part.kind} {"x".join(map(str, part.grid_thw))}</span>'
    return f'<span class="{_kind(part)}">{escape(part.text)}</span>'


def _kind(part: TextView) -> str:
    return "trained" if part.trained else "given"


def _film(block: BlockView) -> str:
    captions = [f"{time_s:.2f} s" for time_s in block.times_s] or [block.kind]
    return "".join(
        f'<figure><img src="{thumbnail(frame)}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
        for frame, caption in zip(block.frames, captions, strict=True)
    )


def _tokens(turns: Sequence[TurnView]) -> str:
    shown = []
    for turn in turns:
        shown.append(f'<span class="role">{turn.role}</span>')
        for part in turn.parts:
            if isinstance(part, BlockView):
                shown.append(f'<span class="visual">{part.kind}, {part.n_tokens} tokens</span>')
                continue
            shown += [
                f'<span class="{_kind(part)}" title="{token}">{escape(piece)}</span>'
                for token, piece in zip(part.ids, part.pieces, strict=True)
            ]
        end = "trained" if turn.role == "assistant" else "given"
        shown.append(f'<span class="{end} end">end</span>')
    return "".join(shown)


def thumbnail(frame: torch.Tensor) -> str:
    """A frame uint8 [3, H, W] as a small JPEG in a data address."""
    image = Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy())
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
