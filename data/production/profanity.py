"""Flags clips in which someone swears.

    python -m data.production.profanity clips.jsonl flagged.jsonl --max_share 0.002

Whole words are compared with a short list of strong ones (data/production/templates/profanity.txt, --word_list replaces
it), also where letters are starred out. better-profanity was tried and is not used: it takes most sentences on sport as
swearing, and reads six clips a second (dev/benchmarks/production.md). CPU, thousands of clips a second and core.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.record import Record
from data.production.stage import Stage, Worker
from utils.errors import UserError
from utils.fingerprint import digest

WORD_LIST = Path(__file__).with_name("templates") / "profanity.txt"
STARRED = re.compile(r"\b(?:f|sh?|b|c|a)[*#@$%_-]{2,}[a-z]*(?!\w)|\b(?:f\*ck|sh\*t|b\*tch|c\*nt)\w*|\[\s*__\s*\]")


@dataclass
class ProfanityOptions:
    """Which words, and how many of them a clip may have."""

    word_list: str | None = field(
        default=None, metadata={"help": "file of words that replaces ours, one a line", "path": "file"}
    )
    max_share: float = field(
        default=1.0,
        metadata={"help": "share of a clip's words over which it is rejected; 1: never", "threshold": True, "le": 1},
    )


class Profanity(Stage):
    """Adds the flag "profanity" and sets scores["profanity"], the share of a clip's words."""

    name, version, Options = "profanity", 1, ProfanityOptions

    def check(self) -> None:
        """The list must be there."""
        self._texts()

    def fingerprint(self) -> str:
        """The list decides."""
        return digest(self._texts())

    def setup(self, worker: Worker) -> None:
        """One pattern of all words."""
        self._pattern = word_pattern(self._texts())

    def expand(self, record: Record) -> Iterable[Record]:
        """Count."""
        text = record.text.lower()
        n_found = len(self._pattern.findall(text)) + len(STARRED.findall(text))
        if n_found:
            record.flags = sorted({*record.flags, self.name})
            record.scores["profanity"] = round(n_found / max(1, len(record.words)), 4)
        return [record]

    def judge(self, record: Record) -> None:
        """Reject clips with too many."""
        share = record.scores.get("profanity", 0.0)
        if share > self.options.max_share:
            record.reject(self.name, "profanity", f"{share:.2%} of the words, at most {self.options.max_share:.2%}")

    def _texts(self) -> list[str]:
        path = Path(self.options.word_list) if self.options.word_list else WORD_LIST
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"--word_list {path}: cannot be read ({error}); give a text file with a word a line"
            ) from None
        texts = [" ".join(line.lower().split()) for line in lines if line.strip() and not line.startswith("#")]
        if not texts:
            raise UserError(f"--word_list {path}: no words in it; give one a line")
        return texts


def word_pattern(texts: Iterable[str]) -> re.Pattern:
    """A pattern of whole words; a star stands for any letters."""
    alternatives = "|".join(re.escape(text).replace(r"\*", r"\w*").replace(r"\ ", r"\W+") for text in texts)
    return re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)")


STAGE = Profanity

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
