"""StreamingBench's scores: accuracy overall, by the three groups of tasks, and per task type."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from evaluation.scoring.results import ItemResult
from evaluation.scoring.tables import Category, Table, by_categories, overall
from utils.errors import UserError

PROTOCOLS = {
    "livecc": (
        "all of the video up to the question is shown",
        "the answer is the option letter with the highest logit after 'Answer:'",
    ),
    "official": (
        "the last 60 seconds before the question are shown",
        "the answer is written and begins with a letter; questions without an answer leave the denominator",
        "outputs are asked for every second up to 4 s after they are due, and the first yes within 2 s is right",
    ),
    "online": (
        "each video is watched once, as it plays, and questions are put to the stream at their times",
        "outputs are awaited: the first words within 2 s of their time are right, whatever they are",
    ),
}
OMNI = "Omni-source understanding"
SEQUENTIAL, PROACTIVE = "Sequential Question Answering", "Proactive Output"
TASKS = {
    "Real-time visual understanding": (
        "Object Perception", "Causal Reasoning", "Clips Summarize", "Attribute Perception", "Event Understanding",
        "Text-Rich Understanding", "Prospective Reasoning", "Spatial Understanding", "Action Perception", "Counting",
    ),
    OMNI: (
        "Emotion Recognition", "Scene Understanding", "Source Discrimination", "Multimodal Alignment",
    ),
    "Contextual understanding": (
        "Misleading Context Understanding", "Anomaly Context Understanding", SEQUENTIAL, PROACTIVE,
    ),
}  # fmt: skip
# What the repository's JSON files call otherwise than the hub's tables.
NAMED_TWICE = {
    "Object Recognition": "Object Perception", "Attribute Recognition": "Attribute Perception",
    "Action Recognition": "Action Perception", "Misleading Context Recognition": "Misleading Context Understanding",
}  # fmt: skip
NOTE = "sound is not heard: omni-source questions are asked of the pictures alone"
MEAN_OVER = ()
PUBLISHED = ()
BY_GROUP = Category("group", "Group", tuple(TASKS))
BY_TASK = Category("task_type", "Task type", tuple(task for tasks in TASKS.values() for task in tasks))


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """Accuracy over all questions; each group of tasks; each task type."""
    groups = {task: group for group, tasks in TASKS.items() for task in tasks}
    grouped = [
        replace(result, tags={**result.tags, BY_GROUP.tag: groups[task]})
        for result in results
        if (task := result.tags.get("task_type")) in groups
    ]
    needs_sound = any(result.tags[BY_GROUP.tag] == OMNI for result in grouped)
    head = overall("accuracy", results, note=NOTE if needs_sound else "")
    return [head, *by_categories(grouped, (BY_GROUP,)), *by_categories(results, (BY_TASK,))]


def read(path: Path) -> NoReturn:
    """No result files of this benchmark can be read."""
    raise UserError(f"{path}: StreamingBench has no published result format here; give a *.result.json")
