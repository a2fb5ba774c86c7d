"""ProactiveVideoQA: a question at the start of a video, whose answers are due at several times while it plays.

A folder of the benchmark is one kind of videos (EGO, TV, VAD, WEB): anno.json, a list of {"video", "question_id",
"duration", "conversation": [{"role", "content", "time"}], "answer": [{"content", "reply_timespan": [start_s, end_s]}]},
and the folder videos. Further turns of a conversation (subtitles of TV) are not shown here.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evaluation.scoring.protocol import OURS, Parts
from evaluation.tasks.item import ClipPlan, Commentary, Item
from evaluation.tasks.lines import BenchmarkLine, LineArguments, VideoFolders, make_items, read_benchmark
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.task import Task
from utils.arguments import helped
from utils.errors import UserError

ANNOTATIONS = "anno.json"
REMEDY = "get the benchmark: hf download wangyueqian/ProactiveVideoQA --repo-type dataset --local-dir FOLDER"


@dataclass
class ProactiveArguments(LineArguments):
    """The questions, their videos, and how a stream answers."""

    benchmark_dir: str = field(metadata={"help": f"folder of EGO, TV, VAD and WEB, or of one of them ({ANNOTATIONS})"})
    max_new_tokens: int = helped(32, "most tokens a step")
    repetition_penalty: float = helped(1.05, "divides the scores of tokens that are already in the context")

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or not self.repetition_penalty > 0:
            raise UserError(
                f"--max_new_tokens {self.max_new_tokens} --repetition_penalty {self.repetition_penalty}: at least 1 "
                "token, and a penalty above 0 (1 changes nothing)"
            )


@dataclass(frozen=True)
class DueAnswer:
    """A true answer and when it is due."""

    content: str
    start_s: float
    end_s: float


def load_task(arguments: ProactiveArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """A stream for each question, to the end of its last answer's time. Raises UserError where there are none."""
    folder, skipped = Path(arguments.benchmark_dir), arguments.skipped()
    files = [folder / ANNOTATIONS] if (folder / ANNOTATIONS).is_file() else sorted(folder.glob(f"*/{ANNOTATIONS}"))
    if not files:
        raise UserError(f"{folder}: no {ANNOTATIONS} in it or in a folder of it; {REMEDY}")
    lines = [line for file in files for line in read_benchmark(file, None, skipped)]
    items = make_items(lines[:limit], lambda line: [_item(line, arguments)], skipped)
    parts = Parts(OURS, OURS, OURS, OURS)
    return Task("proactivevideoqa", "stream", items, None, templates.hashes, parts=parts, skipped=skipped)


def _item(line: BenchmarkLine, arguments: ProactiveArguments) -> Item:
    kind = line.path.parent.name
    question, answers = question_of(line), answers_of(line)
    path, problem = VideoFolders([line.path.parent / "videos", line.path.parent], REMEDY).find(str(line["video"]))
    last_s = min(answers[-1].end_s, float(line.get("duration") or answers[-1].end_s))
    return Item(
        id=f"{kind}_{line['question_id']}",
        video_id=str(line["video"]),
        ask=Commentary(question, arguments.max_new_tokens, arguments.repetition_penalty),
        truth=None,
        clip=None if path is None else ClipPlan(str(path), 0.0, last_s, rule="stream"),
        problem=problem,
        tags={"task": kind},
        shown={"question": question, "answers": [[due.content, due.start_s, due.end_s] for due in answers]},
    )


def question_of(line: BenchmarkLine) -> str:
    """What the viewer asks first. Raises UserError where nothing is asked."""
    turns: Any = line["conversation"]
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], dict) or not turns[0].get("content"):
        raise UserError(f"{line.where}: conversation must begin with a turn that has content")
    return str(turns[0]["content"])


def answers_of(line: BenchmarkLine) -> list[DueAnswer]:
    """The true answers, in order of their times. Raises UserError where there are none or a time is wrong."""
    try:
        found = [DueAnswer(str(one["content"]), *map(float, one["reply_timespan"])) for one in line["answer"]]
    except (TypeError, ValueError, KeyError) as error:
        raise UserError(f"{line.where}: answer must be a list of content and reply_timespan ({error})") from error
    if not found or not all(due.start_s < due.end_s for due in found):
        raise UserError(f"{line.where}: answer is empty, or a reply_timespan ends before it starts")
    return sorted(found, key=lambda due: due.end_s)
