"""Questions with lettered options: how they are put, and how a written answer is read."""

import re
from collections.abc import Sequence

from evaluation.item import Choice
from evaluation.lines import Line
from evaluation.prompts import Templates
from utils.errors import UserError

LETTERED = re.compile(r"\(?([A-Z])[.):]\s*(.*)", re.DOTALL)
ANSWER_PREFIX = "Answer:"


def lettered(options: Sequence[str], line: Line) -> dict[str, str]:
    """Options as letter -> text; those without letters get A, B, ... in order. Raises UserError where letters repeat."""
    found = [LETTERED.fullmatch(option.strip()) for option in options]
    if all(found):
        letters = {match[1]: match[2].strip() for match in found}
    else:
        letters = {chr(ord("A") + i): option.strip() for i, option in enumerate(options)}
    if len(letters) != len(options) or len(letters) < 2:
        raise UserError(f"{line.where}: options {list(options)} are not at least two with letters of their own")
    return letters


def choice(templates: Templates, question: str, options: dict[str, str], before: str = "") -> Choice:
    """The seed's form: the question, its options one a line, the request to select; chosen by the logits of letters.

    before: text that stands between the video and the question.
    """
    listed = "\n".join(f"{letter}. {text}" for letter, text in options.items())
    text = templates.fill("multiple_choice", question=question, options=listed)
    return Choice(before + text, ANSWER_PREFIX, tuple(options))


def read_letter(response: str, letters: Sequence[str]) -> str | None:
    """The option that a written answer names: the first of the letters that stands as a word of its own."""
    found = re.search(rf"(?<![A-Za-z0-9])([{''.join(letters)}])(?![A-Za-z0-9'])", response)
    return found[1] if found else None
