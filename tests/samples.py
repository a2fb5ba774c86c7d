"""Samples, small, for tests of loading and training: annotation files of them, and one as it is encoded."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data.sample_encoder import Example
from tests.videos import make_video


def write_media(folder: Path) -> Path:
    """Write match.mp4 (4 s), short.mp4 (2 s) and pitch.png to a folder; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    make_video(folder / "match.mp4", 100)
    make_video(folder / "short.mp4", 50, size_hw=(80, 112))
    Image.fromarray(np.arange(56 * 84 * 3, dtype=np.uint32).astype(np.uint8).reshape(56, 84, 3)).save(
        folder / "pitch.png"
    )
    return folder


def write_samples(path: Path, samples: Sequence[list]) -> Path:
    """Write one sample a line; return the file."""
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return path


def stream(i: int, n_words: int = 5) -> list:
    """A stream of words over match.mp4; `i` makes it another one."""
    spoken = ["red", "passes", "blue", "wins", "it", "back", "again"]
    words = [[0.4 * k + 0.1 * (i % 3), 0.4 * k + 0.3, spoken[k]] for k in range(n_words)]
    video = {"type": "video", "video": "match.mp4", "video_start": 0.0, "video_end": 3.9}
    speech = {"type": "text_stream", "text_stream": words}
    return [{"role": "user", "content": [video, text(f"Number {i}.")]}, {"role": "assistant", "content": [speech]}]


def talk(i: int, *media: str, answer: str | None = None) -> list:
    """A question about images and videos, and its answer."""
    shown = [{"type": "video" if name.endswith(".mp4") else "image", media_key(name): name} for name in media]
    said = answer or " ".join(["Number"] * (1 + i % 4)) + f" {i}."
    return [
        {"role": "user", "content": [*shown, text(f"What is {i}?")]},
        {"role": "assistant", "content": [text(said)]},
    ]


def media_key(name: str) -> str:
    """The field that holds a media file's name."""
    return "video" if name.endswith(".mp4") else "image"


def text(what: str) -> dict:
    """A text element."""
    return {"type": "text", "text": what}


def text_example(ids: torch.Tensor) -> Example:
    """Tokens alone, all of them supervised."""
    return Example(
        input_ids=ids,
        labels=ids.clone(),
        position_ids=torch.arange(len(ids)).expand(3, -1),
        patches=torch.zeros(0, 1176, dtype=torch.uint8),
        grid_thw=torch.zeros(0, 3, dtype=torch.long),
        kinds=[],
        frame_times_s=torch.zeros(0, dtype=torch.float64),
        chat_text="",
        counts={},
    )
