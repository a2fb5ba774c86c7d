"""A finished commentary: what was said when, what was asked and answered, as one JSON file or read from others."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import UserError
from utils.files import write_whole

TYPE = "commentary"
KINDS = (
    "what demo/cli.py --output_json and this folder's own files hold, the server's records as JSON lines "
    "(GET /sessions/ID/commentary), or an evaluation's lines with video_id, begin, end and pred"
)
WORDS_PER_SECOND = 2.5  # at which a text without times is taken to be spoken


class Spoken(NamedTuple):
    """Text of a step. It was spoken when its last second had played: at end_s, not before."""

    start_s: float
    end_s: float
    text: str


class QuestionAnswer(NamedTuple):
    """Question in mid-stream and its answer; asked_s is the video's second at which it was asked."""

    asked_s: float
    question: str
    answer: str


@dataclass
class FinishedCommentary:
    """Steps and questions in order of time; plain tuples are accepted. Silent steps are left out.

    video: a name to show, never a path. duration_s: of the video, None where it is not known.
    Raises ValueError for a time that is no number, negative, or an end before its start.
    """

    steps: Sequence[tuple[float, float, str]] = ()
    questions: Sequence[tuple[float, str, str]] = ()
    query: str = ""
    model: str = ""
    video: str = ""
    duration_s: float | None = field(default=None)

    def __post_init__(self) -> None:
        steps = [Spoken(float(start_s), float(end_s), _clean(text)) for start_s, end_s, text in self.steps]
        questions = [QuestionAnswer(float(asked_s), _clean(q), _clean(answer)) for asked_s, q, answer in self.questions]
        for step in steps:
            _check_time("a step's start", step.start_s)
            _check_time(f"the end of the step from {step.start_s:g} s", step.end_s, step.start_s)
        for question in questions:
            _check_time("the time of a question", question.asked_s)
        if self.duration_s is not None:
            self.duration_s = float(self.duration_s)
            _check_time("the video's duration", self.duration_s)
        self.steps = sorted((step for step in steps if step.text), key=lambda step: (step.end_s, step.start_s))
        self.questions = sorted((q for q in questions if q.question or q.answer), key=lambda q: q.asked_s)

    def to_json(self) -> str:
        """One JSON object, as a file of it holds; `read_commentary` reads it."""
        return json.dumps({"type": TYPE, **asdict(self)}, ensure_ascii=False, indent=1) + "\n"

    def write(self, path: Path) -> None:
        """Write the JSON file, whole or not at all."""
        write_whole(Path(path), self.to_json())


def read_commentary(path: str | Path, video: str | None = None) -> FinishedCommentary:
    """Read a commentary file. video: which one's lines to take where an evaluation's file holds several.

    Raises UserError with the path and the cause.
    """
    path = Path(path)
    try:
        return _from_records(_records(path.read_text(encoding="utf-8")), video)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the JSON file of a commentary") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}; expected {KINDS}") from error


def _records(text: str) -> list[dict]:
    """The objects of a JSON document or of JSON lines."""
    try:
        whole = json.loads(text)
        records = whole if isinstance(whole, list) else [whole]
    except json.JSONDecodeError as error:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if len(lines) < 2 or not text.lstrip().startswith("{") or lines[0][1].strip() == "{":
            raise ValueError(f"is no JSON ({error})") from error
        records = [_parsed(number, line) for number, line in lines]
    if not records or not all(isinstance(record, dict) for record in records):
        raise ValueError("holds no JSON objects")
    return records


def _parsed(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is no JSON ({error})") from error


def _from_records(records: list[dict], video: str | None = None) -> FinishedCommentary:
    first = records[0]
    try:
        if all("pred" in record for record in records):
            return _from_predictions(records, video)
        if len(records) == 1 and first.get("type") == TYPE:
            values = {name: first[name] for name in FinishedCommentary.__dataclass_fields__ if name in first}
            return FinishedCommentary(**values)
        if len(records) == 1 and "steps" in first:
            return _from_viewing(first, first["steps"], first.get("answers", ()))
        if any(record.get("type") in ("header", "step") for record in records):
            return _from_stream(records)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a record is not complete: {type(error).__name__}: {error}") from error
    raise ValueError("holds no commentary")


def _from_viewing(header: dict, steps: Sequence[dict], answers: Sequence[dict]) -> FinishedCommentary:
    """Of the command line's and the server's records."""
    return FinishedCommentary(
        steps=[(step["start_s"], step["end_s"], step["text"]) for step in steps],
        questions=[(a["asked_s"], a["question"], a["text"]) for a in answers],
        query=_clean(header.get("query") or ""),
        model=short_name(header.get("model") or ""),
        video=short_name(header.get("video") or header.get("source") or ""),
        duration_s=header.get("duration_s"),
    )


def _from_stream(records: list[dict]) -> FinishedCommentary:
    """Of records in the order in which they came; a server's answer was asked by the end of the step before it."""
    header, steps, answers, begun = {}, [], [], {}
    for record in records:
        kind, now_s = record.get("type"), steps[-1]["end_s"] if steps else 0.0
        if kind == "header":
            header = header or record
        elif kind == "step":
            steps.append(record)
        elif kind == "piece":
            begun.setdefault(record.get("id"), now_s)
        elif kind == "answer":
            answers.append({"asked_s": begun.get(record.get("id"), now_s), **record})
    return _from_viewing(header, steps, answers)


def _from_predictions(rows: list[dict], video: str | None) -> FinishedCommentary:
    """Of an evaluation's events, each a window with one text; its words are spread over the window."""
    names = sorted({str(row["video_id"]) for row in rows})
    wanted = names[0] if len(names) == 1 else Path(video or "").stem
    if wanted not in names:
        some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
        raise ValueError(f"holds {len(names)} videos ({some}) and none is {wanted!r}")
    rows = [row for row in rows if str(row["video_id"]) == wanted]
    steps = [step for row in rows for step in _spread(float(row["begin"]), float(row["end"]), _clean(row["pred"]))]
    return FinishedCommentary(steps=steps, video=wanted)


def _spread(start_s: float, end_s: float, text: str) -> list[Spoken]:
    """A window's text as a step a second, at an even pace that a speaker can keep, to the window's end at most."""
    words = text.replace(" ... ", " ").removesuffix(" ...").split()
    n_steps = max(1, min(math.ceil(end_s - start_s), math.ceil(len(words) / WORDS_PER_SECOND)))
    cuts = [round(i * len(words) / n_steps) for i in range(n_steps + 1)]
    last = min(start_s + n_steps, end_s) if end_s > start_s else end_s
    edges = [start_s + (last - start_s) * i / n_steps for i in range(n_steps + 1)]
    return [Spoken(edges[i], edges[i + 1], " ".join(words[cuts[i] : cuts[i + 1]])) for i in range(n_steps)]


def short_name(name: str) -> str:
    """A model or a video as people call it: no folders of this machine, no password or token of a URL."""
    if "://" in name:
        return re.sub(r"://[^/@]*@", "://", name).split("?")[0]
    is_hub_id = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(name).suffix
    return name if is_hub_id else Path(name.replace("\\", "/")).name


def _clean(text: str) -> str:
    """One line without control characters; what no encoding can hold becomes a question mark."""
    if not isinstance(text, str):
        raise TypeError(f"a text is {text!r}")
    text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(" " if c < " " or "\x7f" <= c <= "\x9f" else c for c in text).split())


def _check_time(what: str, value: float, least: float = 0.0) -> None:
    if not (math.isfinite(value) and value >= least):
        raise ValueError(f"{what} is {value:g} s; it must be a number from {least:g} on")
