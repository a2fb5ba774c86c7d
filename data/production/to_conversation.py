"""Clips -> training samples: a user's message with video, query and context, an assistant's with words and times.

    python -m data.production.to_conversation clips.jsonl train.jsonl

CPU, tens of thousands of clips a second and core.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.record import Record
from data.production.stage import Stage
from data.production.words.packed_words import in_order


class ToConversation(Stage):
    """See the module. The words move into the sample."""

    name, version = "to_conversation", 1

    def expand(self, record: Record) -> Iterable[Record]:
        """The record with its sample; rejected where nobody could train on it."""
        if not record.video:
            return [record.reject(self.name, "no_video", "the record names no video file")]
        if not record.words:
            return [record.reject(self.name, "no_words", "nothing is said in the clip")]
        if not in_order(record.words):
            return [record.reject(self.name, "words_out_of_order", "a word starts before the one before it")]
        record.conversation = sample_of(record)
        record.words, record.captions, record.previous = [], [], ""
        return [record]


def sample_of(record: Record) -> list:
    """The sample of section 2 of the annotation format (data/samples/annotations.py)."""
    start_s = record.words[0][0] if record.start_s is None else record.start_s
    end_s = record.words[-1][1] if record.end_s is None else record.end_s
    video = {"type": "video", "video": record.video, "video_start": start_s, "video_end": end_s}
    text = {
        "type": "text",
        "text": record.query,
        "previous": record.previous,
        "title": record.title,
        "category": record.category,
    }
    words = {"type": "text_stream", "text_stream": record.words}
    return [{"role": "user", "content": [video, text]}, {"role": "assistant", "content": [words]}]


STAGE = ToConversation

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
