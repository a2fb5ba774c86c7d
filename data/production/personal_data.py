"""Flags clips in which personal data are said or titled: mail addresses, phone, card and account numbers, streets.

    python -m data.production.personal_data clips.jsonl flagged.jsonl --reject True

Patterns for data as written, and for mail addresses and digits as they are spoken ("john at gmail dot com", "five five
five one two three four"). Card and account numbers are checked by their own check digits, so that scores and times do
not count. Names are none: a commentary is made of them. CPU, thousands of clips a second and core.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.record import Record
from data.production.stage import Stage

DIGIT_WORDS = ["zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SPOKEN_DIGITS = 7  # in a row, from which on they are a number that someone gives
MAX_DOMAIN = r"(?:com|org|net|edu|gov|io|co|uk|de|fr|info|me|tv)"
PATTERNS = {
    "email": re.compile(
        r"[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[a-z]{2,24}\b"
        rf"|\b[\w.]+ at (?!the )[\w-]+ dot {MAX_DOMAIN}\b",
        re.IGNORECASE,
    ),
    "phone": re.compile(
        r"(?<![\w.])(?:\+\d{1,3}[ .-]?(?:\(?\d{1,4}\)?[ .-]?){2,5}\d{2,4}"
        r"|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}|\d{10,11})(?![\w.]*\d)"
    ),
    "us_social_security": re.compile(r"\b(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}\b"),
    "street": re.compile(
        r"\b\d{1,5}(?: (?:north|south|east|west))? [a-z]+(?: [a-z]+)? (?:street|avenue|boulevard|drive|lane|road)\b"
        r"(?! (?:to|and) \d)",
        re.IGNORECASE,
    ),
}
CARD = re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")


@dataclass
class PersonalDataOptions:
    """Flag or reject."""

    reject: bool = field(
        default=False, metadata={"help": "reject such clips instead of flagging them", "threshold": True}
    )


class PersonalData(Stage):
    """Adds the flag "personal_data", and the kinds that were found to extra["personal_data"] (never the data)."""

    name, version, Options = "personal_data", 1, PersonalDataOptions

    def expand(self, record: Record) -> Iterable[Record]:
        """Look through what is said, the title and the query."""
        kinds = sorted({kind for text in (record.text, record.title, record.query) for kind in find_kinds(text)})
        if kinds:
            record.flags = sorted({*record.flags, self.name})
            record.extra["personal_data"] = kinds
        return [record]

    def judge(self, record: Record) -> None:
        """Reject flagged ones where that is asked for."""
        if self.options.reject and self.name in record.flags:
            record.reject(self.name, "personal_data", ", ".join(record.extra["personal_data"]))


def find_kinds(text: str) -> Iterator[str]:
    """Kinds of personal data in a text; some may come twice."""
    yield from (kind for kind, pattern in PATTERNS.items() if pattern.search(text))
    if any(_luhn(re.sub(r"\D", "", match[0])) for match in CARD.finditer(text)):
        yield "card"
    if any(_is_iban(match[0].replace(" ", "")) for match in IBAN.finditer(text)):
        yield "bank_account"
    if _has_spoken_number(re.findall(r"[a-z]+", text.lower())):
        yield "spoken_number"


def _luhn(digits: str) -> bool:
    """Check digit of payment cards (ISO/IEC 7812); a row of one digit passes it and is none."""
    doubled = [int(digit) * (1 + i % 2) for i, digit in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def _is_iban(text: str) -> bool:
    """ISO 13616: rearranged and read as a number, modulo 97 it is 1."""
    return 15 <= len(text) <= 34 and int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def _has_spoken_number(words: list[str]) -> bool:
    """Whether seven digits are said in a row, which a countdown's or a count's are not."""
    run: list[int] = []
    for word in [*words, ""]:
        if word in DIGIT_WORDS:
            run.append(max(DIGIT_WORDS.index(word) - 1, 0))
            continue
        steps = {b - a for a, b in pairwise(run)}
        if len(run) >= SPOKEN_DIGITS and steps not in ({1}, {-1}, {0}):
            return True
        run = []
    return False


STAGE = PersonalData

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
