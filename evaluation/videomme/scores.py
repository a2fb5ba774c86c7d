"""VideoMME's scores, and its published result files: nested answers (.json) and the text report (.txt)."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from evaluation.scoring.results import BenchmarkRun, ItemResult
from evaluation.scoring.tables import Category, Table, by_categories, overall
from utils.errors import UserError
from utils.files import write_whole

PROTOCOLS = {
    "livecc": (
        "the question is put in the seed's words",
        "the answer is the option letter with the highest logit after 'Answer:'",
    ),
    "official": (
        "the question is put in the benchmark's own words",
        "the answer is written, and the first option letter that stands alone in it counts; without one it is wrong",
    ),
}
MEAN_OVER = ()
PUBLISHED = ("*_no_subtitles.json", "*_with_subtitles.json")

DURATIONS = ("short", "medium", "long")
DOMAINS = (
    "Knowledge", "Film & Television", "Sports Competition", "Artistic Performance", "Life Record", "Multilingual",
)  # fmt: skip
SUB_CATEGORIES = (
    "Humanity & History", "Literature & Art", "Biology & Medicine", "Finance & Commerce", "Astronomy", "Geography",
    "Law", "Life Tip", "Technology", "Animation", "Movie & TV Show", "Documentary", "News Report", "Esports",
    "Basketball", "Football", "Athletics", "Other Sports", "Stage Play", "Magic Show", "Variety Show", "Acrobatics",
    "Handicraft", "Food", "Fashion", "Daily Life", "Travel", "Pet & Animal", "Exercise", "Multilingual",
)  # fmt: skip
TASK_TYPES = (
    "Temporal Perception", "Spatial Perception", "Attribute Perception", "Action Recognition", "Object Recognition",
    "OCR Problems", "Counting Problem", "Temporal Reasoning", "Spatial Reasoning", "Action Reasoning",
    "Object Reasoning", "Information Synopsis",
)  # fmt: skip
CATEGORIES = (
    Category("duration", "Duration", DURATIONS),
    Category("domain", "Domain", DOMAINS),
    Category("sub_category", "Sub-category", SUB_CATEGORIES),
    Category("task_type", "Task type", TASK_TYPES),
)
VIDEO_TAGS = ("duration", "domain", "sub_category")
OPTION = re.compile(r"\s*\(?([A-Z])[.):\s]")  # "A. text"


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """Accuracy over all questions, by duration, domain, sub-category and task type."""
    return [overall("accuracy", results), *by_categories(results, CATEGORIES)]


def read(path: Path) -> BenchmarkRun:
    """Published answers: videos with their questions, each with a `response` whose first letter is the answer.

    The model and the setting are in the file's name. Raises UserError where it is no such file.
    """
    model, setting = _model_and_setting(path)
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))
        results = [_result(video, question) for video in videos for question in video["questions"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path}: no published VideoMME answers ({type(error).__name__}: {error}); "
            "expected a list of videos with their questions and responses"
        ) from error
    return BenchmarkRun("videomme", "livecc", model, setting, results, {"published_file": path.name})


def export(run: BenchmarkRun, folder: Path) -> list[Path]:
    """Write a result as published: MODEL_SETTING.json and .txt; returns the files."""
    stem = "_".join(part for part in (run.model, run.setting) if part)
    videos = nested(run.results)
    paths = [folder / f"{stem}.json", folder / f"{stem}.txt"]
    write_whole(paths[0], json.dumps(videos))
    write_whole(paths[1], text_report(run.results))
    return paths


def nested(results: Sequence[ItemResult]) -> list[dict]:
    """Outcomes as published: a list of videos, each with its questions."""
    videos: dict[str, dict] = {}
    for result in results:
        tags = {name: result.tags.get(name, "") for name in VIDEO_TAGS}
        video = videos.setdefault(result.cluster, {"video_id": result.cluster, **tags, "questions": []})
        question = {
            "question_id": result.id,
            "task_type": result.tags.get("task_type", ""),
            "question": result.shown.get("question", ""),
            "options": list(result.shown.get("options", ())),
            "answer": result.truth,
            "response": _response(result),
        }
        video["questions"].append(question)
    return list(videos.values())


def text_report(results: Sequence[ItemResult]) -> str:
    """The benchmark's own report: every group in its order, 0.0% for one without questions."""
    lines = []
    for duration in DURATIONS:
        inside = [result for result in results if result.tags.get("duration") == duration]
        lines += [*_part(f"Evaluation on video Type: {duration}", "Video Categories", inside), "", ""]
    lines += _part("Evaluation on the entire dataset", "Video Domains", results)
    return "\n".join(lines) + "\n"


def _model_and_setting(path: Path) -> tuple[str, str]:
    for setting in ("no_subtitles", "with_subtitles"):
        if path.stem.endswith(f"_{setting}"):
            return path.stem.removesuffix(f"_{setting}"), setting
    return path.stem, ""


def _result(video: dict, question: dict) -> ItemResult:
    response = question.get("response") or ""
    letter = response.strip()[:1]
    tags = {**{name: video[name] for name in VIDEO_TAGS}, "task_type": question["task_type"]}
    shown = {"question": question["question"], "options": question["options"]}
    value = float(letter == question["answer"])
    if not letter:
        shown["error"] = "the file has no response to it"
    return ItemResult(
        question["question_id"], video["video_id"], value, not letter, tags, response or None, question["answer"], shown
    )


def _response(result: ItemResult) -> str:
    """The answer; a letter becomes the option that it stands for, as in the published files."""
    if result.failed or result.answer is None:
        return ""
    for option in result.shown.get("options", ()):
        found = OPTION.match(option)
        if found and found[1] == result.answer:
            return option
    return str(result.answer)


def _part(title: str, domains_title: str, results: Sequence[ItemResult]) -> list[str]:
    double, single = "=" * 37, "-" * 37
    lines = [double, title, double]
    for heading, tag, names in (
        (domains_title, "domain", DOMAINS),
        ("Video Sub Categories", "sub_category", SUB_CATEGORIES),
        ("Task Categories", "task_type", TASK_TYPES),
    ):
        lines += [single, heading, single]
        lines += [_line(name, [o for o in results if o.tags.get(tag) == name]) for name in names]
    return [*lines, single, "Overall Performance", single, _line("Overall", results)]


def _line(name: str, results: Sequence[ItemResult]) -> str:
    percent = sum(result.value for result in results) / len(results) * 100 if results else 0
    return f"{name}:  {percent:.1f}%"
