"""The text stages of the published pipeline, written here, plainly: what bench_production.py compares with.

One script after the other, each reading JSON lines and writing JSON lines with Python's json: metadata filter, captions
to clips, conversations, offsets. Its defects are left out (the last word is kept, rows are not repeated), since they
would make it slower or easier; what is measured is the plain way of doing the same.
"""

import json
from pathlib import Path


def filter_metadata(source: Path, target: Path) -> None:
    """Category, height, length, language, distinct words."""
    with source.open() as lines, target.open("w") as out:
        for line in lines:
            video = json.loads(line)
            if video["height"] < 480 or not 30 <= video["duration_s"] <= 600 or video["language"] != "en":
                continue
            distinct = set()
            for _start, _end, text in video["captions"]:
                for word in text.split():
                    distinct.add(word.lower())
            if len(distinct) >= 30:
                out.write(json.dumps(video) + "\n")


def cut_clips(source: Path, target: Path) -> None:
    """Words by even split; cut where the next word ends over 3 s later; 30 to 240 s; 1 to 4 words a second."""
    with source.open() as lines, target.open("w") as out:
        for line in lines:
            video = json.loads(line)
            for clip in clips_of(words_of(video["captions"])):
                seconds = clip["words"][-1][1] - clip["words"][0][0]
                if not 30 <= seconds <= 240 or not 1 <= len(clip["words"]) / seconds <= 4:
                    continue
                facts = {"video": video["video"], "title": video["title"], "category": video["category"]}
                out.write(json.dumps({**facts, **clip}) + "\n")


def words_of(captions: list) -> list:
    """Each word with its share of its caption's time."""
    words = []
    last_text = None
    for start, end, text in captions:
        if "[" in text or "]" in text or "(" in text or ")" in text:
            continue
        if text == last_text:
            continue
        last_text = text
        pieces = text.split()
        for i, word in enumerate(pieces):
            step = (end - start) / len(pieces)
            words.append([round(start + i * step, 3), round(start + (i + 1) * step, 3), word])
    return words


def clips_of(words: list) -> list:
    """Clips with all earlier speech."""
    clips, current = [], []
    for i, word in enumerate(words):
        if current and (word[1] - current[-1][1] > 3 or word[1] - current[0][0] > 240):
            clips.append(current)
            current = []
        current.append(word)
        if i == len(words) - 1:
            clips.append(current)
    made, before = [], []
    for clip in clips:
        made.append({"words": clip, "previous": " ".join(word[2] for word in before)})
        before = before + clip
    return made


def to_conversations(source: Path, target: Path) -> None:
    """Training samples."""
    with source.open() as lines, target.open("w") as out:
        for line in lines:
            clip = json.loads(line)
            words = clip["words"]
            user = [
                {"type": "video", "video": clip["video"], "video_start": words[0][0], "video_end": words[-1][1]},
                {
                    "type": "text",
                    "text": "",
                    "previous": clip["previous"],
                    "title": clip["title"],
                    "category": clip["category"],
                },
            ]
            assistant = [{"type": "text_stream", "text_stream": words}]
            sample = [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
            out.write(json.dumps(sample) + "\n")


def append_seeks(source: Path, target: Path) -> None:
    """The offsets of all lines as the last one."""
    offsets, at = [], 0
    with source.open() as lines, target.open("w") as out:
        for line in lines:
            offsets.append(at)
            out.write(line)
            at += len(line)
        out.write(json.dumps(offsets))


def produce(videos: Path, folder: Path) -> Path:
    """All of it, one after the other."""
    steps = [(filter_metadata, "kept"), (cut_clips, "clips"), (to_conversations, "samples"), (append_seeks, "train")]
    for step, name in steps:
        target = folder / f"{name}.jsonl"
        step(videos, target)
        videos = target
    return videos
