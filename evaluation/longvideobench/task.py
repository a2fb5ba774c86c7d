"""LongVideoBench, validation split: questions that refer to moments of videos of up to an hour."""

from collections.abc import Iterator

from evaluation.scoring.protocol import OURS
from evaluation.tasks.hub_rows import HubSet
from evaluation.tasks.letter_questions import LetterArguments, LetterBenchmark, LetterQuestion, load_letters
from evaluation.tasks.lines import BenchmarkLine
from evaluation.tasks.multiple_choice import listed_options
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.reading import longvideobench_letter
from evaluation.tasks.task import Task
from utils.errors import UserError

NO_OPTION = "N/A"  # in the hub's table, whose options are five columns


def questions_of(line: BenchmarkLine) -> Iterator[LetterQuestion]:
    """The question of an entry. Raises UserError where it lacks what is needed, such as the held-out answers."""
    if "candidates" in line.fields:
        texts = listed_options(line, "candidates")
    else:
        texts = [str(line[f"option{i}"]) for i in range(5) if line.get(f"option{i}") not in (None, NO_OPTION)]
    right = line["correct_choice"]
    if isinstance(right, bool) or not isinstance(right, int) or not 0 <= right < len(texts):
        raise UserError(
            f"{line.where}: correct_choice is {right!r}; it must be the place of one of {len(texts)} options"
        )
    video = str(line["video_path"])
    yield LetterQuestion(
        id=str(line["id"]),
        video_id=video,
        videos=(video,),
        question=line["question"],
        options={chr(ord("A") + i): text for i, text in enumerate(texts)},
        truth=chr(ord("A") + right),
        tags={name: str(line[name]) for name in ("duration_group", "question_category")},
    )


BENCHMARK = LetterBenchmark(
    name="longvideobench",
    hub=HubSet("longvideobench/LongVideoBench", split="validation"),
    folders=("videos", ""),
    questions=questions_of,
    template="longvideobench",
    letter=longvideobench_letter,
    # The authors put the subtitles between the frames, and guess where an answer names no option.
    own_parts={"prompt": OURS, "frames": OURS, "reading": OURS},
)


def load_task(arguments: LetterArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions. Raises UserError where there are none or one lacks what is needed."""
    return load_letters(BENCHMARK, arguments, templates, limit)
