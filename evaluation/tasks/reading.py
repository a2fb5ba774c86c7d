"""Reading of written answers: what a model thought is left out, what was cut off or is empty is no answer, and each
benchmark's authors find the chosen letter in their own way.

The authors' rules are restated from their repositories, their slips included: a number is theirs only if these hold.
"""

import re
from collections.abc import Sequence

_THOUGHT = r"(?:seed:)?(?:think|thinking|thought|reasoning)"
THOUGHT_BEGINS = re.compile(rf"[<\[◁]{_THOUGHT}[>\]▷]", re.IGNORECASE)
THOUGHT_ENDS = re.compile(rf"[<\[◁]/{_THOUGHT}[>\]▷]", re.IGNORECASE)
# Two of them are one in the authors' list, where a comma is missing; so neither is ever found.
VIDEOMME_PREFIXES = (
    "The best answer is", "The correct answer is", "The answer is", "The answer",
    "The best option isThe correct option is", "Best answer:Best option:",
)  # fmt: skip
VIDEOMMEV2_PREFIXES = (
    "Final Answer:", "The best answer is", "The correct answer is", "The answer is", "The answer", "The best option is",
    "The correct option is", "Best answer:", "Best option:", "Answer:", "Option:",
)  # fmt: skip
MOST_WORDS_WITHOUT_A_LETTER = 10


class Unfinished(ValueError):
    """Raised where a reply was cut off, or says nothing: it is a failure, not an answer."""


def final_answer(text: str, is_cut: bool, remedy: str) -> str:
    """What a reply says after what it thought. remedy: the next step where it was cut off.

    Raises Unfinished where the reply reached its limit of tokens, or nothing is left of it.
    """
    if is_cut:
        raise Unfinished(f"the reply was cut off at its limit of tokens; {remedy}")
    said = without_thoughts(text)
    if not said:
        thought = "after what it thought" if text.strip() else "at all"
        raise Unfinished(f"the reply says nothing {thought}; turn its thinking off, or {remedy}")
    return said


def without_thoughts(text: str) -> str:
    """What stands after the last thought, without any that has no end; templates may have begun the first one."""
    return THOUGHT_BEGINS.split(THOUGHT_ENDS.split(text)[-1])[0].strip()


def videomme_letter(response: str) -> str:
    """Video-MME's extract_characters_regex: any of A to D, wherever it first stands; "" where there is none."""
    return _first_letter(response, VIDEOMME_PREFIXES, "ABCD")


def videommev2_letter(response: str) -> str:
    """Video-MME-v2's extract_characters_regex_v2: the same for A to H, after more prefixes."""
    return _first_letter(response, VIDEOMMEV2_PREFIXES, "ABCDEFGH")


def lvbench_letter(response: str) -> str:
    """LVBench's polish_answer: the first character inside the first brackets, or of the first word."""
    inside = response.strip().split(")")[0].strip()
    if "(" in inside:
        inside = inside.split("(")[1].strip()
    return inside.split(" ")[0][:1]


def longvideobench_letter(response: str) -> str:
    """Any of A to E, wherever it first stands, after LongVideoBench's prefixes; "" where there is none."""
    return _first_letter(response, VIDEOMMEV2_PREFIXES[1:-2], "ABCDE")


def mlvu_letter(response: str) -> str:
    """MLVU's check_ans: what stands before the first closing bracket, else the whole answer."""
    place = response.find(")")
    return response[max(place - 1, 0) : place] if place >= 0 else response


def mvbench_is_right(response: str, letter: str, text: str) -> bool:
    """MVBench's check_ans of "(" + response against "(B) text": one's first word stands in the other's."""
    said = f"({response}".lower().split(" ")[0]
    right = f"({letter}) {text}".lower().split(" ")[0]
    return said.replace(".", "") in right or right in said


def lone_letter(response: str, letters: Sequence[str]) -> str | None:
    """Ours: the first of the letters that stands as a word of its own, quoted or not; None where there is none.

    A small letter counts where it is all that is said.
    """
    if (said := response.strip(" \n().[]*`'\"").upper()) in letters:
        return said
    found = re.search(rf"(?<![A-Za-z0-9])([{''.join(letters)}])(?![A-Za-z0-9]|['’](?!s\b)[A-Za-z])", response)
    return found[1] if found else None


def named_option(response: str, options: Sequence[str]) -> str | None:
    """Ours: the option that an answer names, a lone letter, or the only one of several words that occurs in it."""
    if all(len(option) == 1 for option in options):
        return lone_letter(response, options)
    named = [option for option in options if re.search(rf"\b{re.escape(option)}\b", response, re.IGNORECASE)]
    return named[0] if len(named) == 1 else None


def _first_letter(response: str, prefixes: Sequence[str], letters: str) -> str:
    said = response.strip()
    for prefix in prefixes:
        said = said.replace(prefix, "")
    found = re.search(f"[{letters}]", said)
    return found[0] if found else ""
