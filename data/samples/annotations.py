"""Annotation files: JSONL with one conversation a line, read at random, parsed and checked.

    [{"role": "user", "content": [
         {"type": "video", "video": "match.mp4", "video_start": 12.3, "video_end": 61.0},
         {"type": "text", "text": "query", "previous": "earlier speech", "title": "", "category": ""}]},
     {"role": "assistant", "content": [
         {"type": "text_stream", "text_stream": [[start_s, end_s, "word"], ...]}]}]

A sample with a text_stream is a stream; any other is an ordinary conversation of texts, images and videos. A stream may
go on with questions asked when its clip ends: pairs of a user's and an assistant's message of text.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from data.samples.elements import Malformed, Message, TextElement, VideoElement, WordsElement, parse_messages
from data.samples.line_index import file_identity, open_index
from utils.errors import UserError

SHOWN_CHARACTERS = 60


class AnnotationError(UserError):
    """A sample that cannot be used. The message has file, line, value and remedy; `cause` is a name."""

    def __init__(self, message: str, *, cause: str, path: str, line_no: int):
        super().__init__(message)
        self.cause, self.path, self.line_no = cause, path, line_no

    def __reduce__(self):
        # Errors travel from loader workers; the default would drop the named arguments.
        return _rebuilt_error, (str(self), self.cause, self.path, self.line_no)


@dataclass(frozen=True)
class Sample:
    """One conversation, checked, and where it came from (line_no as an editor counts)."""

    messages: list[Message]
    path: str
    index: int
    line_no: int

    @property
    def where(self) -> str:
        """File and line, as editors and compilers write them."""
        return f"{self.path}:{self.line_no}"

    @property
    def is_stream(self) -> bool:
        """Whether words with times are spoken over a video."""
        return any(map(_is_spoken, self.messages))

    @property
    def _spoken(self) -> int:
        """Number of the message that holds a stream's words."""
        return next(i for i, message in enumerate(self.messages) if _is_spoken(message))

    @property
    def questions(self) -> list[Message]:
        """Questions at the end of a stream's clip, and their answers."""
        return self.messages[self._spoken + 1 :]

    @property
    def video(self) -> VideoElement:
        """The video of a stream."""
        return next(e for m in self.messages for e in m.elements if isinstance(e, VideoElement))

    @property
    def words(self) -> WordsElement:
        """The word stream of a stream."""
        return next(e for e in self.messages[self._spoken].elements if isinstance(e, WordsElement))

    @property
    def query(self) -> TextElement:
        """The text beside a stream's video; an empty one where there is none."""
        texts = (e for e in self.messages[self._spoken - 1].elements if isinstance(e, TextElement))
        return next(texts, TextElement(""))

    def error(self, message: str, cause: str) -> AnnotationError:
        """An error that names this sample's file and line."""
        return AnnotationError(f"{self.where}: {message}", cause=cause, path=self.path, line_no=self.line_no)


class AnnotationFile:
    """The samples of one JSONL file by number, read with one `pread` each.

    Can be pickled and used in forked and spawned workers. Opening raises UserError for a file that is missing
    or holds no samples; `[i]` raises AnnotationError for a malformed sample.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self._fd: int | None = None
        self._index = open_index(self.path)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> Sample:
        return parse_sample(self.line(i), str(self.path), i, self.line_no(i))

    def line(self, i: int) -> bytes:
        """Sample i as it stands in the file, without its line end."""
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path}: sample {i} of {len(self)}")
        start, stop = self._index.span(i)
        return self._read(start, stop).strip()

    def lines(self, start: int, stop: int) -> list[tuple[int, bytes]]:
        """Line number and line of samples [start, stop), read at once."""
        if not 0 <= start < stop <= len(self):
            raise IndexError(f"{self.path}: samples {start} to {stop} of {len(self)}")
        text = self._read(self._index.span(start)[0], self._index.span(stop - 1)[1])
        numbered = enumerate(text.split(b"\n"), start=self.line_no(start))
        lines = [(line_no, stripped) for line_no, line in numbered if (stripped := line.strip())]
        if len(lines) != stop - start:
            raise UserError(f"{self.path}: changed while it was in use; start again")
        return lines

    def line_no(self, i: int) -> int:
        """Number of sample i's line, counted from 1, blank lines included."""
        return self._index.line_no(i)

    def _read(self, start: int, stop: int) -> bytes:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        # pread moves no file position, so forked processes can share the descriptor.
        return os.pread(self._fd, stop - start, start)

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __del__(self):
        if getattr(self, "_fd", None) is not None:
            self.close()

    def __getstate__(self) -> dict:
        return {"path": self.path, "identity": file_identity(self.path)}

    def __setstate__(self, state: dict) -> None:
        if file_identity(state["path"]) != state["identity"]:
            raise UserError(f"{state['path']}: changed while it was in use; start again")
        self.path, self._fd, self._index = state["path"], None, open_index(state["path"])


def parse_sample(line: bytes, path: str, index: int, line_no: int) -> Sample:
    """One line as a checked sample; AnnotationError with file, line, value and remedy if it is malformed."""
    try:
        messages = parse_messages(_parse_json(line))
    except Malformed as fault:
        message = f"{path}:{line_no}: {fault}"
        raise AnnotationError(message, cause=fault.cause, path=path, line_no=line_no) from None
    return Sample(messages, path, index, line_no)


def resolve_media(media: str, sample: Sample) -> str:
    """The path of a sample's video or image: beside the annotation file, else under the working directory.

    Raises AnnotationError ("missing_file") that names both places when it is a file in neither.
    """
    media = media.removeprefix("file://")
    beside = os.path.join(os.path.dirname(sample.path), media)
    for candidate in (beside, media):
        if os.path.isfile(candidate):
            return candidate
    tried = dict.fromkeys(map(os.path.abspath, (beside, media)))
    raise sample.error(
        f"{media!r} is not a file; tried {' and '.join(tried)}; put it there, or write its full path",
        cause="missing_file",
    )


def _is_spoken(message: Message) -> bool:
    return any(isinstance(element, WordsElement) for element in message.elements)


def _parse_json(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise Malformed(f"byte {error.start} is not UTF-8; save the file as UTF-8", "malformed_json") from None
    except json.JSONDecodeError as error:
        near = error.doc[max(0, error.pos - SHOWN_CHARACTERS // 2) : error.pos + SHOWN_CHARACTERS // 2]
        raise Malformed(
            f"not JSON: {error.msg} at character {error.pos}, near {near!r}; a line holds one whole sample",
            "malformed_json",
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; brackets nested too deep
        raise Malformed(f"JSON that cannot be read: {error}", "malformed_json") from None


def _rebuilt_error(message: str, cause: str, path: str, line_no: int) -> AnnotationError:
    return AnnotationError(message, cause=cause, path=path, line_no=line_no)
