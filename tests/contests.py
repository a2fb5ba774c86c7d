"""Events with two commentaries each, as files for the judge."""

import json
from pathlib import Path

from evaluation.livesports3kcc.llm_judge import JudgeArguments


def write_event_files(folder: Path, n: int) -> JudgeArguments:
    """Events of n / 4 videos; every second of our commentaries is a good one, and lengths differ."""
    events, ours, theirs = [], [], []
    for i in range(n):
        name = {"video_id": f"v{i // 4}", "event_id": i, "begin": i, "end": i + 5}
        events.append({**name, "video": f"v{i // 4}.mp4", "event_title": "match", "event_asr_text": f"goal {i}"})
        ours.append({**name, "pred": f"a {'good' if i % 2 else 'dull'} goal {'and so ' * (i % 7)}{i}"})
        theirs.append({**name, "pred": f"a man plays ball {i}"})
    for name, rows in (("events", events), ("ours", ours), ("GPT-4o", theirs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return JudgeArguments(
        "ours",
        str(folder / "ours.jsonl"),
        str(folder / "judges"),
        baseline_jsonl=str(folder / "GPT-4o.jsonl"),
        annotations=str(folder / "events.jsonl"),
    )
