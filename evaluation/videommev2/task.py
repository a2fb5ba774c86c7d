"""Video-MME-v2: 800 videos with four questions each, of eight options, which are scored as a group."""

from collections.abc import Iterator

from evaluation.tasks.hub_rows import HubSet
from evaluation.tasks.letter_questions import LetterArguments, LetterBenchmark, LetterQuestion, load_letters
from evaluation.tasks.lines import BenchmarkLine
from evaluation.tasks.multiple_choice import lettered, listed_options, right_letter
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.reading import videommev2_letter
from evaluation.tasks.task import Task

GROUP_SIZE = 4  # rows that follow each other
TAGS = ("level", "group_type", "group_structure", "second_head", "third_head")


def questions_of(line: BenchmarkLine) -> Iterator[LetterQuestion]:
    """The question of a row, and its place in its group. Raises UserError where a field is missing."""
    group, place = divmod(line.number - 1, GROUP_SIZE)
    options, video = lettered(listed_options(line), line), str(line["video"])
    yield LetterQuestion(
        id=f"{group:04d}-{place + 1}",
        video_id=video,
        videos=(f"{video}.mp4",),
        question=line["question"],
        options=options,
        truth=right_letter(options, line),
        tags={"group": f"{group:04d}", **{name: str(line[name]) for name in TAGS}},
    )


BENCHMARK = LetterBenchmark(
    name="videommev2",
    hub=HubSet("MME-Benchmarks/Video-MME-v2"),
    folders=("videos", "video", ""),
    questions=questions_of,
    template="videommev2",
    letter=videommev2_letter,
    n_frames=64,
)


def load_task(arguments: LetterArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions. Raises UserError where there are none or one lacks what is needed."""
    return load_letters(BENCHMARK, arguments, templates, limit)
