"""A small LiveSports-3K-CC on the shipped matches, and its commands in this process."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NANO = ROOT / "models" / "nano_checkpoint"
VIDEOS = ROOT / "demo" / "sources"
TITLE, PREVIOUS = "Orange against $cyan", "Under way, cyan, nil one."


def rows() -> list[dict]:
    """Events with title and earlier speech, with one of them, with neither, and one whose video is lost."""
    seen = [("match_1", 4, 2.0, 9.5), ("match_1", "11", 12.0, 18.0), ("match_2", 7, 0, 6), ("lost", 1, 0.0, 5.0)]
    texts = [(TITLE, PREVIOUS), (TITLE, ""), ("", ""), ("", PREVIOUS)]
    return [
        {
            "video": f"videos/{video}.mp4", "video_id": video, "event_id": event, "begin": begin, "end": end,
            "event_title": title, "preasr_text": previous, "event_asr_text": f"words of {video} {event}",
        }
        for (video, event, begin, end), (title, previous) in zip(seen, texts, strict=True)
    ]  # fmt: skip


def write_rows(path: Path, lines: list[dict]) -> Path:
    """JSON lines."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read_rows(path: Path) -> list[dict]:
    """What is in a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def run_main(main: Callable[[], int], monkeypatch: pytest.MonkeyPatch, *flags: object) -> int:
    """Exit status of a command's main function under these flags."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, flags)])
    return main()
