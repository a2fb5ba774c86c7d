"""A small VideoMME on made videos, and its command in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.training import SMALL
from tests.videos import make_video

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = "evaluation/videomme/distributed_evaluate_videomme.py"
DURATIONS = ("short", "medium", "long")


def make_videomme(folder: Path, n_videos: int, broken: Sequence[int] = ()) -> Path:
    """Write videomme.jsonl with three questions on each video, and the videos; returns the file."""
    (folder / "videos").mkdir(parents=True)
    lines = []
    for i in range(n_videos):
        path = folder / "videos" / f"video{i}.mp4"
        make_video(path, 50 + 12 * (i % 3))
        if i in broken:
            path.write_bytes(path.read_bytes()[:700])
        lines += [json.dumps(question(i, number)) + "\n" for number in range(3)]
    benchmark = folder / "videomme.jsonl"
    benchmark.write_text("".join(lines))
    return benchmark


def question(video: int, number: int) -> dict:
    """A line of the benchmark."""
    options = ["A. Red.", "B. Blue.", "C. Green.", "D. White."][: 4 - number % 2]
    return {
        "video_id": f"{video:03d}", "duration": DURATIONS[video % 3], "domain": "Sports Competition",
        "sub_category": "Football", "url": "", "videoID": f"video{video}", "question_id": f"{video:03d}-{number + 1}",
        "task_type": "Attribute Perception", "question": f"Which colour is team {number} of game {video}?",
        "options": options, "answer": "ABC"[(video + number) % 3], "subtitles": f"words of video {video} " * 8,
    }  # fmt: skip


def command(model: Path, benchmark: Path, output_dir: Path, *flags: object) -> list[str]:
    """The script's command."""
    paths = ["--model_name_or_path", model, "--benchmark_path", benchmark, "--output_dir", output_dir]
    return [sys.executable, *map(str, [SCRIPT, *paths, "--device", "cpu", *flags])]


def environment() -> dict[str, str]:
    """Small frames, one thread."""
    return {**os.environ, **SMALL}


def run(words: list[str], status: int = 0) -> subprocess.CompletedProcess:
    """Run a command that must end with this status."""
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=280)
    assert done.returncode == status, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def answers(output_dir: Path) -> dict[tuple[str, str], tuple]:
    """(setting, item) -> (answer, logits) of every result file of a folder."""
    found = {}
    for path in output_dir.glob("*.result.json"):
        kept = json.loads(path.read_text())
        for outcome in kept["outcomes"]:
            found[kept["setting"], outcome["id"]] = (outcome["answer"], outcome["shown"].get("logits"))
    return found
