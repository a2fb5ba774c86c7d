"""Annotation files: JSONL with one conversation a line, read at random, parsed and checked.

    [{"role": "user", "content": [
         {"type": "video", "video": "match.mp4", "video_start": 12.3, "video_end": 61.0},
         {"type": "text", "text": "query", "previous": "earlier speech", "title": "", "category": ""}]},
     {"role": "assistant", "content": [
         {"type": "text_stream", "text_stream": [[start_s, end_s, "word"], ...],
          "qa_stream": [[number, time_s, "question", "answer"], ...]}]}]

A sample with a text_stream is a stream; any other is an ordinary conversation of texts, images and videos:

    [{"role": "user", "content": [{"type": "image", "image": "a.png"}, {"type": "text", "text": "What is it?"}]},
     {"role": "assistant", "content": "A goal."}]

Questions of a qa_stream are asked at their time in the stream (data/samples/questions.py). A stream may go on with
questions asked when its clip ends: pairs of a user's and an assistant's message of text. A video is a file, a folder of
frames or a list of them, with sample_fps of these a second (default 2); "pos" packs frames in one file. Keys of Qwen's
message format choose frames and their size (data/video/asked_frames.py); of a stream the size alone. A key that nobody
knows is an error, and so is a mark such as <video> in a text.
"""

import json
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from data.samples.elements import Malformed, Message, TextElement, VideoElement, WordsElement, parse_messages
from data.samples.foreign_rows import as_row, explain_row
from data.samples.json_lines import JsonLines
from utils.errors import UserError

SHOWN_CHARACTERS = 60
FIRST_LINES = 3  # rows of another form: so many of them make a file of it
WINDOWS_PATH = re.compile(r"(file:/*)?[A-Za-z]:[\\/]")


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
    """One conversation, checked, and where it came from (line_no as an editor counts).

    media_root: the folder in which its media are looked for first.
    """

    messages: list[Message]
    path: str
    index: int
    line_no: int
    media_root: str | None = None

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


class AnnotationFile(JsonLines):
    """The samples of one JSONL file by number, read with one `pread` each.

    media_root: the folder in which their media are looked for first. Opening raises UserError for a file that is
    missing, holds no samples, or is something else; `[i]` raises AnnotationError for a malformed sample.
    """

    def __init__(self, path: str | os.PathLike, media_root: str | os.PathLike | None = None):
        super().__init__(path)
        self.media_root = None if media_root is None else os.path.expanduser(media_root)
        if self.media_root is not None and not os.path.isdir(self.media_root):
            raise UserError(f"--media_root {media_root}: no such folder; give the one that media are relative to")
        self._require_samples()

    def __getitem__(self, i: int) -> Sample:
        return parse_sample(self.line(i), str(self.path), i, self.line_no(i), self.media_root)

    def _explain(self, row: object) -> str:
        foreign = as_row(row)
        return "" if foreign is None or "role" in foreign else explain_row(foreign)

    def _require_samples(self) -> None:
        """Raise UserError where the first lines are all rows of another form: one message, and not one a line."""
        rows = []
        for i in range(min(len(self), FIRST_LINES)):
            row = as_row(_first_value(self.line(i)))
            if row is None:
                return
            rows.append(row)
        raise UserError(f"{self.path}: {explain_row(rows[0])}")


def parse_sample(line: bytes, path: str, index: int, line_no: int, media_root: str | None = None) -> Sample:
    """One line as a checked sample; AnnotationError with file, line, value and remedy if it is malformed."""
    try:
        messages = parse_messages(_parse_json(line))
    except Malformed as fault:
        message = f"{path}:{line_no}: {fault}"
        raise AnnotationError(message, cause=fault.cause, path=path, line_no=line_no) from None
    return Sample(messages, path, index, line_no, media_root)


def resolve_media(media: str, sample: Sample, folders: bool = False) -> str:
    """The path of a sample's video or image: in the media root, beside the annotation file, else under the working
    directory.

    folders: it may also be a folder, of frames. A name that is not there as it is written is looked for as it may be
    meant: a percent-encoded URI, a path from the home directory, one of Windows, accents composed or apart. Raises
    AnnotationError ("missing_file") that names every place when it is in none.
    """
    places = [os.path.dirname(sample.path), ""]
    places = places if sample.media_root is None else [sample.media_root, *places]
    tried = [os.path.join(place, name) for name in _readings(media) for place in places]
    is_there = os.path.exists if folders else os.path.isfile
    for candidate in tried:
        if is_there(candidate):
            return candidate
    what = "is a folder" if any(map(os.path.isdir, tried)) else "is not a file"
    places_tried = " and ".join(dict.fromkeys(map(os.path.abspath, tried)))
    of_windows = "a path of Windows is not found on another system; " if WINDOWS_PATH.match(media) else ""
    raise sample.error(
        f"{media!r} {what}; tried {places_tried}; {of_windows}put it there, write its full "
        "path, or name the folder that it is relative to with --media_root",
        cause="missing_file",
    )


def _readings(media: str) -> Iterator[str]:
    """A name as it is written, then as it may be meant."""
    path = re.sub(r"^file:(//)?(localhost(?=/))?", "", media)
    names = [path, unquote(path), os.path.expanduser(path), path.replace("\\", "/")]
    names += [unicodedata.normalize(form, path) for form in ("NFC", "NFD")]
    return iter(dict.fromkeys(names))


def _is_spoken(message: Message) -> bool:
    return any(isinstance(element, WordsElement) for element in message.elements)


def _first_value(line: bytes) -> object:
    try:
        return _parse_json(line)
    except Malformed:
        return None


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
