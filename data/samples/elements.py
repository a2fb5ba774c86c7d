"""The messages and elements of a sample, made from parsed JSON and checked field by field."""

import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NoReturn, get_args

from data.samples.words import Word

MAX_TIME_S = 1e7  # 115 days; beyond it a time is a mistake, and exact tick arithmetic could overflow
Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)


class Malformed(Exception):
    """A fault of a sample, without its file and line, which the caller adds. `cause` is a short name."""

    def __init__(self, message: str, cause: str = "malformed_sample"):
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class TextElement:
    """Text; in a stream it is the query, with the earlier speech, title and category of the video."""

    text: str
    previous: str = ""
    title: str = ""
    category: str = ""


@dataclass(frozen=True)
class VideoElement:
    """A video, or the part of it from video_start to video_end in seconds.

    pos: the file is a packed one, and these are the cumulative end offsets of its encoded frames.
    """

    video: str
    video_start: float | None = None
    video_end: float | None = None
    pos: list[int] | None = None


@dataclass(frozen=True)
class ImageElement:
    """The path of an image."""

    image: str


@dataclass(frozen=True)
class WordsElement:
    """A word stream: what is said over a video, each word with its time."""

    words: list[Word]


Element = TextElement | VideoElement | ImageElement | WordsElement


@dataclass(frozen=True)
class Message:
    """A message of one side: its role and elements."""

    role: Role
    elements: list[Element]


def parse_messages(value: Any) -> list[Message]:
    """The messages of a sample. Raises Malformed for anything that cannot be trained on."""
    if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
        _fail("a list of whole numbers, as published files hold on their last line only; delete this line", value)
    if not isinstance(value, list):
        _fail("a sample must be a list of messages", value)
    if not value:
        _fail("the conversation is empty", value, "empty_conversation")
    messages = [_message(item, i) for i, item in enumerate(value)]
    _check_roles(messages)
    if any(isinstance(element, WordsElement) for message in messages for element in message.elements):
        _check_stream(messages)
    return messages


def _message(value: Any, i: int) -> Message:
    if not isinstance(value, dict):
        _fail(f"message {i} must be an object with role and content", value)
    role, content = value.get("role"), value.get("content")
    if role not in ROLES:
        _fail(f"the role of message {i} must be one of {', '.join(ROLES)}", role)
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        _fail(f"the content of message {i} must be a string or a list of elements", content)
    elements = [_element(item, f"message {i}, element {j}") for j, item in enumerate(content)]
    if role != "user" and any(isinstance(element, VideoElement | ImageElement) for element in elements):
        _fail(f"message {i}: only a user can show videos and images; its role is", role)
    if all(isinstance(element, TextElement) and not element.text for element in elements):
        _fail(f"message {i} says nothing; give it a text, or remove it", content, "empty_message")
    return Message(role, elements)


def _element(value: Any, where: str) -> Element:
    if not isinstance(value, dict):
        _fail(f"{where} must be an object with a type", value)
    kind = value.get("type")
    if kind is None:  # published conversations sometimes leave it out
        kind = next((name for name in PARSERS if name in value), None)
    parse = PARSERS.get(kind) if isinstance(kind, str) else None
    if parse is None:
        _fail(f"the type of {where} must be one of {', '.join(PARSERS)}", kind, "unknown_element")
    return parse(value, where)


def _text_element(value: dict, where: str) -> TextElement:
    context = {name: _text(value[name], name, where) for name in ("previous", "title", "category") if value.get(name)}
    return TextElement(_text(value.get("text"), "text", where), **context)


def _video_element(value: dict, where: str) -> VideoElement:
    start_s, end_s = (_optional_seconds(value, name, where) for name in ("video_start", "video_end"))
    if start_s is not None and end_s is not None and start_s > end_s:
        _fail(f"{where}: video_start must not be later than video_end; they are", [start_s, end_s], "bad_time")
    pos = value.get("pos")
    return VideoElement(_path(value, "video", where), start_s, end_s, None if pos is None else _pos(pos, where))


def _image_element(value: dict, where: str) -> ImageElement:
    return ImageElement(_path(value, "image", where))


def _words_element(value: dict, where: str) -> WordsElement:
    entries = value.get("text_stream")
    if not isinstance(entries, list):
        _fail(f"{where}: text_stream must be a list of [start, end, word]", entries)
    if not entries:
        _fail(f"{where}: text_stream has no words; remove the sample", entries, "no_words")
    words = [_word(entry, f"{where}, word {i}") for i, entry in enumerate(entries)]
    for i in range(1, len(words)):
        if words[i].start_s < words[i - 1].start_s:
            _fail(
                f"{where}: words must be in the order of their start, but word {i} starts before the one "
                "before it; sort them",
                [list(words[i - 1]), list(words[i])],
                "words_out_of_order",
            )
    return WordsElement(words)


def _word(value: Any, where: str) -> Word:
    if not isinstance(value, list) or len(value) != 3:
        _fail(f"{where} must be [start, end, word]", value)
    start_s, end_s = _seconds(value[0], f"the start of {where}"), _seconds(value[1], f"the end of {where}")
    if start_s > end_s:
        _fail(f"{where} must not end before it starts", value, "bad_time")
    return Word(start_s, end_s, _text(value[2], "the word", where))


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str):
        _fail(f"{where}: {name} must be a string", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        _fail(f"{where}: {name} holds half of a surrogate pair; write the character whole", value, "malformed_json")
    return value


def _path(value: dict, name: str, where: str) -> str:
    path = _text(value.get(name), name, where)
    if not path or "\0" in path:
        _fail(f"{where}: {name} must be the path of a file", path)
    if path.startswith(("http://", "https://", "data:")):
        _fail(f"{where}: {name} must be a local file; download it first", path)
    return path


def _seconds(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _fail(f"{name} must be a number of seconds", value)
    if not 0 <= value <= MAX_TIME_S:  # also false for NaN
        _fail(f"{name} must be between 0 and {MAX_TIME_S:.0e} seconds", value, "bad_time")
    return float(value)


def _optional_seconds(value: dict, name: str, where: str) -> float | None:
    return None if value.get(name) is None else _seconds(value[name], f"{name} of {where}")


def _pos(value: Any, where: str) -> list[int]:
    whole = isinstance(value, list) and value and all(type(item) is int and item > 0 for item in value)
    if not whole or any(b <= a for a, b in pairwise(value)):
        _fail(f"{where}: pos must list the end offset of each frame, growing, the first over 0", value)
    return value


def _check_roles(messages: list[Message]) -> None:
    if any(message.role == "system" for message in messages[1:]):
        _fail("a system message can only be the first", [message.role for message in messages])
    if not any(message.role == "assistant" for message in messages):
        _fail("no message of an assistant, so nothing to learn", [message.role for message in messages], "no_answer")


def _check_stream(messages: list[Message]) -> None:
    """A stream is a user message (one video, at most one text), then an assistant message of words.

    Questions asked when the clip ends may follow, each a user message of text and the assistant's answer.
    """
    spoken = [message for message in messages if message.role != "system"]
    roles = [message.role for message in spoken]
    if roles[:2] != ["user", "assistant"] or roles != ["user", "assistant"] * (len(roles) // 2):
        _fail("a sample with a text_stream must be user and assistant messages in turn; it has", roles)
    kinds = sorted(type(element).__name__ for element in spoken[0].elements)
    if kinds not in (["VideoElement"], ["TextElement", "VideoElement"]):
        _fail("the user of a text_stream must show one video, with at most one text; it has", kinds)
    if len(spoken[1].elements) != 1 or not isinstance(spoken[1].elements[0], WordsElement):
        _fail("the assistant of a stream must have one text_stream and nothing else; elements", len(spoken[1].elements))
    asked = [element for message in spoken[2:] for element in message.elements]
    if not all(isinstance(element, TextElement) for element in asked):
        _fail(
            "after a text_stream only questions and answers of text may follow; kinds",
            [type(e).__name__ for e in asked],
        )
    if any(isinstance(element, VideoElement) and element.pos for element in spoken[0].elements):
        _fail("packed frames (pos) have no times, so they cannot carry a text_stream; kinds", kinds)


PARSERS: dict[str, Callable[[dict, str], Element]] = {
    "text": _text_element,
    "video": _video_element,
    "image": _image_element,
    "text_stream": _words_element,
}


def _fail(rule: str, value: Any, cause: str = "malformed_sample") -> NoReturn:
    raise Malformed(f"{rule}: {reprlib.repr(value)}", cause)
