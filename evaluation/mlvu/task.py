"""MLVU, multiple-choice tasks: seven kinds of questions about videos of minutes to hours."""

from collections.abc import Iterator

from evaluation.mlvu.scores import TASKS
from evaluation.tasks.hub_rows import HubSet
from evaluation.tasks.letter_questions import LetterArguments, LetterBenchmark, LetterQuestion, load_letters
from evaluation.tasks.lines import BenchmarkLine
from evaluation.tasks.multiple_choice import listed_options, right_letter
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.reading import mlvu_letter
from evaluation.tasks.task import Task
from utils.errors import UserError


def questions_of(line: BenchmarkLine) -> Iterator[LetterQuestion]:
    """The question of an entry. Raises UserError where it lacks what is needed, such as the held-out answers."""
    task, video = str(line["question_type"]), str(line["video"])
    if task not in TASKS:
        raise UserError(f"{line.where}: question_type {task!r} is none of {', '.join(TASKS)}")
    options = {chr(ord("A") + i): text for i, text in enumerate(listed_options(line, "candidates"))}
    yield LetterQuestion(
        id=str(line.get("question_id") or f"{task}_{line.number}"),
        video_id=f"{task}/{video}",
        videos=(f"{TASKS.index(task) + 1}_{task}/{video}", f"{task}/{video}", video),
        question=line["question"],
        options=options,
        truth=right_letter(options, line),
        tags={"task_type": task},
    )


BENCHMARK = LetterBenchmark(
    name="mlvu",
    hub=HubSet("MLVU/MVLU"),
    folders=("video", "../video", "videos", ""),
    questions=questions_of,
    template="mlvu",
    letter=mlvu_letter,
    bracketed=True,
    prefix="Best Option: (",
    files="json/[1-7]_*.json",
)


def load_task(arguments: LetterArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions of one or all tasks. Raises UserError where there are none or one lacks what is needed."""
    return load_letters(BENCHMARK, arguments, templates, limit)
