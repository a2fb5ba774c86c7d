"""Questions with lettered options: how they are put, and how a written answer is read."""

import ast
import re
from collections.abc import Sequence

from evaluation.tasks.item import Choice, Item, Written
from evaluation.tasks.lines import BenchmarkLine
from evaluation.tasks.prompts import PromptTemplates
from evaluation.tasks.reading import lone_letter
from utils.errors import UserError

LETTERED = re.compile(r"\(?([A-Z])[.):]\s*(.*)", re.DOTALL)
ANSWER_PREFIX = "Answer:"


def lettered(options: Sequence[str], line: BenchmarkLine) -> dict[str, str]:
    """Options as letter -> text; without letters, and where letters repeat, they get A, B, ... in order.

    Real sets have both, and questions with one option. Raises UserError where there is none.
    """
    found = [LETTERED.fullmatch(option.strip()) for option in options]
    if not options:
        raise UserError(f"{line.where}: no options")
    if not all(found):
        return {chr(ord("A") + i): option.strip() for i, option in enumerate(options)}
    if len({match[1] for match in found}) < len(options):
        return {chr(ord("A") + i): match[2].strip() for i, match in enumerate(found)}
    return {match[1]: match[2].strip() for match in found}


def listed_options(line: BenchmarkLine, name: str = "options") -> list[str]:
    """The options of a line: a list, or text that writes one, as tables have it (["A. one", "B. two"], or lines).

    Raises UserError where they are neither.
    """
    value = line[name]
    if isinstance(value, str):
        value = value.strip()
        try:
            value = ast.literal_eval(value) if value.startswith(("[", "(")) else value.splitlines()
            value = None if len(value) == 1 and not line[name].strip().startswith(("[", "(")) else value
        except (ValueError, SyntaxError):
            value = None
    if not isinstance(value, list | tuple) or not all(isinstance(option, str) for option in value):
        raise UserError(f"{line.where}: {name} is {line[name]!r}; it must be a list of texts")
    return list(value)


def with_letters(options: dict[str, str]) -> list[str]:
    """Options as they are shown: "A. text"."""
    return [f"{letter}. {text}" for letter, text in options.items()]


def right_letter(options: dict[str, str], line: BenchmarkLine, name: str = "answer") -> str:
    """The letter of the answer, which a line gives as a letter, as "A. text", as an option's text, or inside <answer>.

    Raises UserError where it is none of the options.
    """
    answer = str(line[name]).strip()
    if inside := re.fullmatch(r"<answer>(.*)</answer>", answer, re.DOTALL):
        answer = inside[1].strip()
    if answer in options:
        return answer
    for letter, text in options.items():
        writings = (text, f"({letter})", f"{letter}.", f"{letter}. {text}", f"({letter}) {text}", f"{letter}: {text}")
        if answer in writings:
            return letter
    raise UserError(f"{line.where}: {name} is {answer!r}, which is none of the options {with_letters(options)}")


def choice(templates: PromptTemplates, question: str, options: dict[str, str], before: str = "") -> Choice:
    """The seed's form: the question, its options one a line, the request to select; chosen by the logits of letters.

    before: text that stands between the video and the question.
    """
    text = templates.fill("multiple_choice", question=question, options="\n".join(with_letters(options)))
    return Choice(before + text, ANSWER_PREFIX, tuple(options))


def written_choice(
    templates: PromptTemplates, question: str, options: dict[str, str], max_new_tokens: int = 16
) -> Written:
    """The question and its options with the request to write a letter."""
    text = templates.fill("written_choice", question=question, options="\n".join(with_letters(options)))
    return Written(text, max_new_tokens)


def names_the_letter(item: Item, response: str) -> float:
    """1 where a written answer names the right one of the options that `shown` holds, by its letter or by its text."""
    options = item.shown["options"]
    letters = letters_of(options)
    letter = lone_letter(response, letters)
    if letter is None:
        texts = [re.sub(LETTERED, r"\2", option.strip()).strip(" .").lower() for option in options]
        named = [letter for letter, text in zip(letters, texts, strict=True) if text and text in response.lower()]
        letter = named[0] if len(named) == 1 else None
    return float(letter == item.truth)


def letters_of(options: Sequence[str]) -> list[str]:
    """The letters of options, their own or A, B, ... in order."""
    found = [LETTERED.fullmatch(option.strip()) for option in options]
    return [match[1] if all(found) else chr(ord("A") + i) for i, match in enumerate(found)]
