"""Samples, small, for tests of loading and training: annotation files of them, and one as it is encoded."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data.samples.encoder import Example
from tests.videos import make_video

# What streams are shown: two films of different pictures and sizes, from their beginnings and from within.
MATCHES = ("match.mp4", "zweites Spiel – 試合.mp4")
WINDOWS_S = ((0.0, 3.9), (0.9, 3.9))
SPOKEN = (
    ("red", "passes", "blue", "wins", "it", "back", "again"),
    ("blue", "shoots", "and", "the", "keeper", "saves", "it"),
    ("a", "corner", "for", "red", "goal", "well", "played"),
)


def write_matches(folder: Path) -> Path:
    """Write the two films of 4 s to a folder; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    make_video(folder / MATCHES[0], 100)
    make_video(folder / MATCHES[1], 100, size_hw=(96, 120), times_s=[0.02 + k / 25 for k in range(100)], gop=12)
    return folder


def write_media(folder: Path) -> Path:
    """Write the two films, short.mp4 (2 s) and pitch.png to a folder; return it."""
    write_matches(folder)
    make_video(folder / "short.mp4", 50, size_hw=(80, 112))
    Image.fromarray(np.arange(56 * 84 * 3, dtype=np.uint32).astype(np.uint8).reshape(56, 84, 3)).save(
        folder / "pitch.png"
    )
    return folder


def write_samples(path: Path, samples: Sequence[list]) -> Path:
    """Write one sample a line; return the file."""
    path.write_text("".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples), encoding="utf-8")
    return path


def stream(i: int, n_words: int = 5) -> list:
    """A stream of at most 7 words; `i` makes it another one: film, window, question, words and their times.

    The first is over match.mp4 from its beginning, the second over the other film, the third and fourth begin within.
    """
    start_s, end_s = WINDOWS_S[i // 2 % 2]
    begin_s = start_s + 0.05 * (i % 3)
    words = [[begin_s + 0.4 * k, begin_s + 0.4 * k + 0.3, SPOKEN[i % 3][k]] for k in range(n_words)]
    video = {"type": "video", "video": MATCHES[i % 2], "video_start": start_s, "video_end": end_s}
    speech = {"type": "text_stream", "text_stream": words}
    return [{"role": "user", "content": [video, text(f"Number {i}.")]}, {"role": "assistant", "content": [speech]}]


def stream_of_one_length(i: int) -> list:
    """The first stream with its words in another order: for i of one digit all are as long as each other."""
    sample = stream(0)
    words = sample[1]["content"][0]["text_stream"]
    for k, word in enumerate(words):
        word[2] = SPOKEN[0][(k * (1 + i // 5) + i) % len(words)]
    sample[0]["content"][1] = text(f"Number {i}.")
    return sample


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
