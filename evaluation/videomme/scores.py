"""VideoMME's scores, and its published result files: nested answers (.json) and the text report (.txt)."""

import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path

from evaluation.scoring.foreign import (
    LMMS_EVAL,
    TABLES,
    VLMEVALKIT,
    measured,
    model_of_table,
    prediction_table,
    sample_log,
    sample_reply,
)
from evaluation.scoring.protocol import AUTHORS, OURS
from evaluation.scoring.results import BenchmarkRun, ItemResult
from evaluation.scoring.settings_path import settings_path
from evaluation.scoring.tables import Category, Table, by_categories, overall
from evaluation.tasks.reading import videomme_letter
from utils.errors import UserError
from utils.files import write_whole

PROTOCOLS = {
    "livecc": (
        "the answer is the option letter with the highest logit after 'Answer:'",
        "a question without an answer is wrong",
    ),
    "official": (
        "the answer is written, and the first A, B, C or D in it counts, wherever it stands",
        "a question whose answer holds none of these, or that has no answer, leaves the denominator",
    ),
}
MEAN_OVER = ()
PUBLISHED = ("*_no_subtitles.json", "*_with_subtitles.json", "*samples_videomme*.jsonl", "*_Video-MME*.tsv")

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
# How a video's groups are called here and in the first of the authors' templates, and in the later one.
AUTHORS_NAMES = {"duration": "duration_category", "domain": "video_category", "sub_category": "video_subcategory"}
VIDEO_TAGS = tuple(AUTHORS_NAMES)
OPTION = re.compile(r"\s*\(?([A-Z])[.):\s]")  # "A. text"


def summary(results: Sequence[ItemResult]) -> list[Table]:
    """Accuracy over all questions, by duration, domain, sub-category and task type."""
    return [overall("accuracy", results), *by_categories(results, CATEGORIES)]


def read(path: Path) -> BenchmarkRun:
    """Published answers: videos with their questions and responses; samples of lmms-eval; VLMEvalKit's tables.

    The model and the setting are in the file's name. Answers are read as the benchmark's authors read them, and in
    their own format those without a letter leave the denominator. Raises UserError where it is no such file.
    """
    if path.suffix == ".jsonl":
        return _samples(path)
    if path.suffix == ".json" and (videos := _nested_videos(path)) is not None:
        return _published(path, videos)
    if path.suffix in TABLES:
        return _table(path)
    raise UserError(f"{path}: VideoMME's answers end in .json, lmms-eval's in .jsonl, tables in {', '.join(TABLES)}")


def _nested_videos(path: Path) -> list[dict] | None:
    """Videos with their questions; None where the file holds rows of a table."""
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no published VideoMME answers ({error}); expected a list of videos") from error
    is_table = isinstance(videos, dict) or (videos and isinstance(videos[0], dict) and "prediction" in videos[0])
    return None if is_table else videos


def _published(path: Path, videos: list[dict]) -> BenchmarkRun:
    model, setting = _model_and_setting(path)
    try:
        results = [_result(video, question) for video in videos for question in video["questions"]]
        # Answers chosen by logits are written as the options they stand for, and nothing else.
        chosen = all(result.answer is None or result.answer in result.shown["options"] for result in results)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path}: no published VideoMME answers ({type(error).__name__}: {error}); "
            "expected a list of videos with their questions and responses"
        ) from error
    protocol, parts = "livecc" if chosen else "published", {"reading": AUTHORS, "denominator": AUTHORS}
    return BenchmarkRun("videomme", protocol, model, setting, results, {"published_file": path.name}, parts)


def _samples(path: Path) -> BenchmarkRun:
    results = []
    for row in sample_log(path):
        found = measured(row, "question_id", "answer")
        if found is None:
            raise UserError(f"{path}: sample {row['doc_id']} has no question_id and answer: not a log of VideoMME")
        tags = {"duration": found.get("duration"), "domain": found.get("category")}
        tags |= {"sub_category": found.get("sub_category"), "task_type": found.get("task_category")}
        shown = {"question": str(row.get("input", ""))}
        results.append(_read_result(str(found["question_id"]), str(sample_reply(row)), found["answer"], tags, shown))
    setting = "with_subtitles" if "w_subtitle" in path.stem else "no_subtitles"
    settings, parts = {"published_file": path.name}, {"reading": AUTHORS, "denominator": OURS}
    return BenchmarkRun("videomme", LMMS_EVAL, path.parent.name, setting, results, settings, parts)


def _table(path: Path) -> BenchmarkRun:
    results = []
    for row in prediction_table(path):
        # Its rows are the benchmark's in their order, three for each of the videos 001, 002, ...
        number = int(row["index"])
        tags = {name: row.get(name) for name in (*VIDEO_TAGS, "task_type")}
        options = row.get("candidates") or row.get("options") or "[]"
        shown = {"question": row.get("question", ""), "options": _listed(options)}
        name = f"{number // 3 + 1:03d}-{number % 3 + 1}"
        results.append(_read_result(name, str(row["prediction"]), row["answer"], tags, shown))
    setting = "with_subtitles" if "subs" in path.stem else "no_subtitles"
    settings, parts = {"published_file": path.name}, {"reading": AUTHORS, "denominator": OURS}
    return BenchmarkRun("videomme", VLMEVALKIT, model_of_table(path, "Video-MME"), setting, results, settings, parts)


def _listed(options: object) -> list[str]:
    found = ast.literal_eval(options) if isinstance(options, str) else options
    return [str(option) for option in found]


def _read_result(name: str, response: str, answer: str, tags: dict, shown: dict) -> ItemResult:
    """A result of another harness: everything that was asked stays in the denominator."""
    value = float(videomme_letter(response) == answer)
    known = {tag: str(group) for tag, group in tags.items() if group}
    cluster = name.rsplit("-", 1)[0]
    if not response:
        shown["error"] = "the file has no response to it"
    return ItemResult(name, cluster, value, not response, known, response or None, answer, shown)


def export(run: BenchmarkRun, folder: Path) -> list[Path]:
    """Write a result as published: MODEL_SETTING.json and .txt; returns the files.

    Names say nothing of protocol and settings, so a name that another run has gets a key of the run's own.
    """
    suffix = f"_{run.setting}" if run.setting else ""
    path = settings_path(folder, run.model, f"{suffix}.json", run.key, len(run.results))
    write_whole(path, json.dumps(nested(run.results)))
    write_whole(path.with_suffix(".txt"), text_report([result for result in run.results if result.counted]))
    return [path, path.with_suffix(".txt")]


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
    letter = videomme_letter(response)
    tags = {name: video.get(name, video.get(theirs)) for name, theirs in AUTHORS_NAMES.items()}
    tags["task_type"] = question["task_type"]
    shown = {"question": question["question"], "options": question["options"]}
    if not response.strip():
        shown["error"] = "the file has no response to it"
    return ItemResult(
        question["question_id"], video["video_id"], float(letter == question["answer"]), not response.strip(),
        {name: str(group) for name, group in tags.items() if group is not None}, response or None, question["answer"],
        shown, counted=bool(letter),
    )  # fmt: skip


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
