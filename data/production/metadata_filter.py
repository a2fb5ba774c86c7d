"""Keeps videos by what is known of them: category, height, length, language, distinct words; each limit is optional.

    python -m data.production.metadata_filter videos.jsonl kept.jsonl --min_height 480

CPU, tens of thousands of videos a second and core.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.record import Record
from data.production.stage import Stage

AT_ONCE = 24  # captions or words


@dataclass
class MetadataOptions:
    """Limits; an empty list or a null leaves one out. The paper's are the defaults."""

    categories: list[str] = field(
        default_factory=list, metadata={"help": "keep these only; default: any", "threshold": True}
    )
    drop_categories: list[str] = field(default_factory=list, metadata={"help": "never keep these", "threshold": True})
    min_height: int | None = field(default=480, metadata={"help": "of the video, in pixels", "threshold": True})
    min_s: float | None = field(default=30.0, metadata={"help": "shortest video", "threshold": True})
    max_s: float | None = field(default=600.0, metadata={"help": "longest video", "threshold": True})
    languages: list[str] = field(
        default_factory=lambda: ["en"],
        metadata={"help": "keep these only; a code stands for its regions (en: en-US)", "threshold": True},
    )
    min_distinct_words: int | None = field(
        default=30, metadata={"help": "of the captions or words, capitals and small letters alike", "threshold": True}
    )
    unknown: Literal["reject", "keep"] = field(
        default="reject", metadata={"help": "videos of which a value is not known: reject or keep", "threshold": True}
    )


class MetadataFilter(Stage):
    """See the module."""

    name, version, Options = "metadata_filter", 1, MetadataOptions

    def judge(self, record: Record) -> None:
        """Reject by the first limit that is not met."""
        o = self.options
        if record.category in o.drop_categories or (o.categories and record.category not in o.categories):
            record.reject(self.name, "category", record.category or "none")
        self._check_number(record, "height", record.height, o.min_height, None)
        self._check_number(record, "length", record.duration_s, o.min_s, o.max_s)
        if o.languages and record.language and not any(_is_language(record.language, w) for w in o.languages):
            record.reject(self.name, "language", f"{record.language}, wanted {', '.join(o.languages)}")
        if o.min_distinct_words and not (record.words or record.captions):
            record.reject(
                self.name, "no_captions", record.extra.get("no_captions", "it has neither captions nor words")
            )
        if o.languages and not record.language:
            self._reject_unknown(record, "language")
        if o.min_distinct_words and record.rejection is None:
            n = distinct_words(record, o.min_distinct_words)
            if n < o.min_distinct_words:
                record.reject(self.name, "few_distinct_words", f"{n}, at least {o.min_distinct_words}")

    def _check_number(
        self, record: Record, what: str, value: float | None, least: float | None, most: float | None
    ) -> None:
        if least is None and most is None:
            return
        if value is None:
            self._reject_unknown(record, what)
        elif least is not None and value < least:
            record.reject(self.name, f"{what}_too_small", f"{value:g}, at least {least:g}")
        elif most is not None and value > most:
            record.reject(self.name, f"{what}_too_large", f"{value:g}, at most {most:g}")

    def _reject_unknown(self, record: Record, what: str) -> None:
        if self.options.unknown == "reject":
            record.reject(self.name, f"{what}_unknown", "the input does not say; unknown: keep lets it pass")


def distinct_words(record: Record, enough: int) -> int:
    """How many different words are said; where they are enough, the count may stop there."""
    entries, found = record.captions or record.words, set()
    for start in range(0, len(entries), AT_ONCE):
        found.update(" ".join([entry[2] for entry in entries[start : start + AT_ONCE]]).lower().split())
        if len(found) >= enough:
            break
    return len(found)


def _is_language(language: str, wanted: str) -> bool:
    language, wanted = language.lower().replace("_", "-"), wanted.lower()
    return language == wanted or language.startswith(f"{wanted}-")


STAGE = MetadataFilter

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
