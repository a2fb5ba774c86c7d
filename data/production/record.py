"""What travels through the production of training data: a video or a clip of one, its words, and what became of it.

A record starts as a whole video (start_s and end_s are None) and ends as a clip with a window. In files it is one JSON
object a line; fields that say nothing are left out.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import orjson

from data.production.words.packed_words import Timed, as_json
from utils.errors import UserError


@dataclass(slots=True)
class Rejection:
    """Why a record goes no further. failed: its stage could not work on it, and may when it is tried again."""

    stage: str
    reason: str  # a short name that is counted: "too_short", "loss_too_high", "broken_video"
    detail: str = ""  # the value and the limit, for people: "loss 7.2, at most 6.5"
    failed: bool = False


@dataclass(slots=True)
class Record:
    """One video, or one clip of it. Stages fill in what they find out; nothing else is shared between them.

    id: unique in a run, and stable: what is random in a stage is drawn from it. A clip's is "VIDEO_ID#0003".
    """

    id: str
    video: str = ""  # path of the file; relative ones are relative to the working directory
    title: str = ""
    category: str = ""
    channel: str = ""  # who published it; the held-out split goes by it
    language: str = ""  # as its source or a stage says: "en"
    duration_s: float | None = None
    height: int | None = None
    width: int | None = None
    captions: list[Timed] = field(default_factory=list)  # [start_s, end_s, text] a line
    words: Sequence[Timed] = field(default_factory=list)  # [start_s, end_s, word]
    start_s: float | None = None  # the clip's window
    end_s: float | None = None
    previous: str = ""  # all speech of the video before the clip
    query: str = ""
    split: str = ""  # "held_out" where it must not be trained on
    scores: dict[str, float] = field(default_factory=dict)  # what stages measured, by name: {"lm_loss": 3.2}
    flags: list[str] = field(default_factory=list)  # what stages noticed without rejecting: "profanity"
    extra: dict[str, Any] = field(default_factory=dict)  # JSON that inputs brought or stages keep; carried along
    source: str = ""  # where it came from, for messages: "captions.jsonl:12"
    rejection: Rejection | None = None
    conversation: list | None = None  # the finished training sample

    @property
    def seconds(self) -> float:
        """Length of the clip's window, of its words where it has none, or of the video."""
        if self.start_s is not None and self.end_s is not None:
            return self.end_s - self.start_s
        if self.words:
            return self.words[-1][1] - self.words[0][0]
        return self.duration_s or 0.0

    @property
    def spoken(self) -> Sequence[Timed]:
        """The words, also where they have moved into the conversation."""
        return self.conversation[-1]["content"][0]["text_stream"] if self.conversation else self.words

    @property
    def n_words(self) -> int:
        """How many words are said, also where captions still hold them."""
        if self.spoken or not self.captions:
            return len(self.spoken)
        text = " ".join([caption[2] for caption in self.captions])
        # Counting spaces is five times faster than splitting, where there is one between any two words.
        is_plain = "  " not in text and "\n" not in text and text.strip() == text and text
        return text.count(" ") + 1 if is_plain else len(text.split())

    @property
    def text(self) -> str:
        """The words, joined by spaces."""
        return " ".join([word[2] for word in self.spoken])

    def reject(self, stage: str, reason: str, detail: str = "", failed: bool = False) -> "Record":
        """Mark it as rejected; returns itself. The first rejection stays."""
        if self.rejection is None:
            self.rejection = Rejection(stage, reason, detail, failed)
        return self

    def part(self, number: int | str, words: Sequence[Timed], start_s: float | None, end_s: float | None) -> "Record":
        """A clip of this record: what the video is stays, captions go, its id gets the number."""
        # Every field by name: dataclasses.replace takes ten times as long, and there are 15 parts in a video.
        return Record(
            id=f"{self.id}#{number:04d}" if isinstance(number, int) else f"{self.id}#{number}",
            video=self.video,
            title=self.title,
            category=self.category,
            channel=self.channel,
            language=self.language,
            duration_s=self.duration_s,
            height=self.height,
            width=self.width,
            words=words,
            start_s=start_s,
            end_s=end_s,
            query=self.query,
            split=self.split,
            scores=dict(self.scores),
            flags=list(self.flags),
            extra=dict(self.extra),
            source=self.source,
        )


BUFFER = 1 << 16  # bytes
FIELDS = tuple(field.name for field in fields(Record))
VALUES = attrgetter(*FIELDS)


def to_line(record: Record) -> bytes:
    """The record as one line of JSON, without its line end. Equal records have equal lines.

    Raises TypeError for what JSON has not, numpy's numbers too: what is read back must equal what was written.
    """
    kept = {name: value for name, value in zip(FIELDS, VALUES(record), strict=True) if value or value == 0}
    if "scores" in kept:
        kept["scores"] = {name: kept["scores"][name] for name in sorted(kept["scores"])}
    return orjson.dumps(kept, default=as_json)


def has_failed(line: bytes) -> bool:
    """Whether a record's line says that a stage could not work on it."""
    return orjson.loads(line).get("rejection", {}).get("failed", False)


def from_line(line: bytes) -> Record:
    """A record from a line that `to_line` wrote; lines of strangers go through jsonl_input.py, which checks them."""
    value = orjson.loads(line)
    if "rejection" in value:
        value["rejection"] = Rejection(**value["rejection"])
    return Record(**value)


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file that this program wrote."""
    for number, line in enumerate(read_lines(path), start=1):
        try:
            yield from_line(line)
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}:{number}: not a record of this program ({error}); delete the file") from None


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that this program wrote, without their ends, one after the other: memory that a whole file
    would take anew costs more time than all that is done with it."""
    with path.open("rb", buffering=BUFFER) as file:
        for line in file:
            yield line.removesuffix(b"\n")


def with_ends(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines as the pieces of a file."""
    for line in lines:
        yield line
        yield b"\n"
