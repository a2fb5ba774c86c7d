"""Rejects clips whose words have times that cannot be right: a check of captions and of speech recognition.

    python -m data.production.word_times clips.jsonl sane.jsonl --max_bad_share 0.05

A word is bad if it ends before it starts, starts before the one ahead of it, begins while that one has long to go,
lasts for over 3 s, lies outside the video, or is one of ten words said in less than a second. CPU, thousands of clips a
second and core.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.record import Record, Timed
from data.production.stage import Stage

RUN = 10  # words over which a rate is taken: an even split of captions makes single words of a few milliseconds
LATE_S = 1.0  # a file's stated length may be a little short


@dataclass
class WordTimeOptions:
    """What is bad, and how much of it a clip may have."""

    max_bad_share: float = field(
        default=0.05,
        metadata={"help": "share of bad words from which on a clip is rejected", "threshold": True, "le": 1},
    )
    max_word_s: float = field(default=3.0, metadata={"help": "longest word", "gt": 0})
    max_overlap_s: float = field(default=0.5, metadata={"help": "longest time that two words share"})
    max_words_per_s: float = field(
        default=10.0, metadata={"help": "fastest ten words; the fastest speakers reach 8", "gt": 0}
    )


class WordTimes(Stage):
    """Sets scores["bad_word_times"], a share, and extra["bad_word_times"], words by what is wrong with them."""

    name, version, Options = "word_times", 1, WordTimeOptions

    def expand(self, record: Record) -> Iterable[Record]:
        """Count."""
        if not record.words:
            return [record.reject(self.name, "no_words", "nothing is said")]
        bad = bad_words(record.words, self.options, record.duration_s)
        n_bad = len({i for places in bad.values() for i in places})
        record.scores["bad_word_times"] = round(n_bad / len(record.words), 4)
        if bad:
            record.extra["bad_word_times"] = {cause: len(places) for cause, places in bad.items()}
        return [record]

    def judge(self, record: Record) -> None:
        """Reject by the share."""
        share = record.scores["bad_word_times"]
        if share > self.options.max_bad_share:
            causes = Counter(record.extra["bad_word_times"]).most_common()
            said = ", ".join(f"{n} {cause}" for cause, n in causes)
            record.reject(self.name, "bad_word_times", f"{share:.0%} of {len(record.words)} words: {said}")


def bad_words(
    words: Sequence[Timed], options: WordTimeOptions, duration_s: float | None = None
) -> dict[str, list[int]]:
    """Places of the words that are backwards, out_of_order, overlapping, too_long, outside or too_fast."""
    bad: dict[str, list[int]] = {}
    latest_start_s = latest_end_s = float("-inf")
    for i, (start_s, end_s, _) in enumerate(words):
        faults = {
            "backwards": end_s < start_s,
            "out_of_order": start_s < latest_start_s,
            "overlapping": latest_end_s - start_s > options.max_overlap_s and start_s >= latest_start_s,
            "too_long": end_s - start_s > options.max_word_s,
            "outside": start_s < 0 or (duration_s is not None and end_s > duration_s + LATE_S),
        }
        for cause in (cause for cause, is_so in faults.items() if is_so):
            bad.setdefault(cause, []).append(i)
        latest_start_s, latest_end_s = max(latest_start_s, start_s), max(latest_end_s, end_s)
    fast = {
        j
        for i in range(len(words) - RUN + 1)
        if words[i + RUN - 1][1] - words[i][0] < RUN / options.max_words_per_s
        for j in range(i, i + RUN)
    }
    return {**bad, "too_fast": sorted(fast)} if fast else bad


STAGE = WordTimes

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
