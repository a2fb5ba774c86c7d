"""Questions in mid-stream: after which step each is asked, as the streaming loop asks them."""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from data.samples.words import LATE_S, step_window

ROUNDING_S = 1e-6  # sums of binary fractions fall short of the times that were written


class Question(NamedTuple):
    """What is asked at a second of the video's own clock, and the answer."""

    time_s: float
    question: str
    answer: str


def questions_by_step(
    questions: Sequence[Question], first_s: float, n_steps: int, start_s: float = 0.0
) -> tuple[dict[int, list[Question]], Counter]:
    """Questions by the number of the step after which they are asked, and counts of those asked and left out.

    first_s: of the first frame; start_s: where the clip begins. As in the streaming loop, a question is about what was
    seen so far: it is asked after the last step that has ended by then, and where none has, after the first. Questions
    before the clip and more than 0.5 s after its last step are left out.
    """
    ends_s = [step_window(step)[1] for step in range(n_steps)]
    asked, counts = defaultdict(list), Counter(questions=0, questions_outside=0)
    for question in questions:
        since_s = question.time_s - first_s + ROUNDING_S
        if question.time_s < start_s or since_s > ends_s[-1] + LATE_S:
            counts["questions_outside"] += 1
            continue
        counts["questions"] += 1
        asked[max(0, bisect_right(ends_s, since_s) - 1)].append(question)
    return dict(asked), counts
