"""LVBench: questions with four options about 103 videos of about an hour."""

import re
from collections.abc import Iterator

from evaluation.scoring.protocol import OURS
from evaluation.tasks.hub_rows import HubSet
from evaluation.tasks.letter_questions import LetterArguments, LetterBenchmark, LetterQuestion, load_letters
from evaluation.tasks.lines import BenchmarkLine
from evaluation.tasks.multiple_choice import lettered, right_letter
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.reading import lvbench_letter
from evaluation.tasks.task import Task
from utils.errors import UserError

OPTION = re.compile(r"^\s*(\([A-Z]\).*)$", re.MULTILINE)  # the options are lines of the question: "(A) text"


def questions_of(line: BenchmarkLine) -> Iterator[LetterQuestion]:
    """The questions of a video. Raises UserError where one lacks what is needed."""
    key = str(line["key"])
    for entry in line["qa"]:
        row = BenchmarkLine(line.path, line.number, entry)
        listed = OPTION.findall(row["question"])
        if not listed:
            raise UserError(f"{row.where}: question {row['uid']} has no options, lines that begin with (A), (B), ...")
        options = lettered(listed, row)
        kinds = row["question_type"]
        yield LetterQuestion(
            id=str(row["uid"]),
            video_id=key,
            videos=(f"{key}.mp4",),
            question=OPTION.sub("", row["question"]).strip(),
            options=options,
            truth=right_letter(options, row),
            tags={f"is {kind}": kind for kind in ([kinds] if isinstance(kinds, str) else kinds)},
        )


BENCHMARK = LetterBenchmark(
    name="lvbench",
    hub=HubSet("THUDM/LVBench", split="train"),
    folders=("all_videos", "videos", "video", ""),
    questions=questions_of,
    template="written_choice",
    letter=lvbench_letter,
    bracketed=True,
    own_parts={"prompt": OURS, "frames": OURS},  # the authors publish neither
)


def load_task(arguments: LetterArguments, templates: PromptTemplates, limit: int | None = None) -> Task:
    """The questions. Raises UserError where there are none or one lacks what is needed."""
    return load_letters(BENCHMARK, arguments, templates, limit)
