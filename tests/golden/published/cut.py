"""Cut the published result files to a few videos and events, in the same formats, so that they fit in the repository.

    python -m tests.golden.published.cut PUBLISHED

Takes every 75th video of VideoMME, so that all durations are there, and every 70th event of LiveSports-3K-CC. The text
reports are counted here, by letters alone; that the full ones come out line by line is tested on the full files.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
MODELS = ("LiveCC-7B-Base", "LiveCC-7B-Instruct")


def cut_videomme(source: Path, target: Path) -> None:
    """Videos with their questions, and a report that keeps the published one's lines."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.glob("*.json")):
        videos = json.loads(path.read_text())[37::75]
        (target / path.name).write_text(json.dumps(videos))
        lines = path.with_suffix(".txt").read_text().splitlines()
        (target / path.with_suffix(".txt").name).write_text("\n".join(recount(lines, videos)) + "\n")


def recount(lines: list[str], videos: list[dict]) -> list[str]:
    """The published lines with each percentage counted over these videos."""
    counted, duration, heading = [], None, ""
    for line in lines:
        name, mark, _ = line.partition(":  ")
        if line.startswith("Evaluation on"):
            duration = line.split(": ")[1] if ": " in line else None
        elif mark:
            field = {"Video Sub Categories": "sub_category", "Task Categories": "task_type"}.get(heading, "domain")
            questions = [
                {**video, **question}
                for video in videos
                if duration in (None, video["duration"])
                for question in video["questions"]
            ]
            asked = [q for q in questions if name == "Overall" or q[field] == name]
            n_right = sum(q["response"].startswith(q["answer"]) for q in asked)
            line = f"{name}:  {100 * n_right / len(asked) if asked else 0:.1f}%"
        elif not line.startswith(("-", "=")):
            heading = line
        counted.append(line)
    return counted


def cut_livesports(source: Path, target: Path) -> None:
    """Judgements of some events, and the commentaries and captions that they compare."""
    rows = {model: (source / f"judges/GPT-4o_{model}.jsonl").read_text().splitlines() for model in MODELS}
    events = {json.loads(line)["video_event_id"] for line in rows[MODELS[0]][::70]}
    files = ["captions/GPT-4o.jsonl", *(f"{kind}{m}.jsonl" for m in MODELS for kind in ("judges/GPT-4o_", "livecc/"))]
    for name in files:
        kept = [line for line in (source / name).read_text().splitlines() if event_of(json.loads(line)) in events]
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text("\n".join(kept) + "\n")


def event_of(row: dict) -> str:
    """The event that a line is about."""
    return row.get("video_event_id") or f"{row['video_id']}_{row['event_id']}"


if __name__ == "__main__":
    published = Path(sys.argv[1])
    cut_videomme(published / "videomme/results", HERE / "videomme/results")
    cut_livesports(published / "livesports3kcc", HERE / "livesports3kcc")
