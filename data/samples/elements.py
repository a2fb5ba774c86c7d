"""The messages and elements of a sample, made from parsed JSON and checked field by field."""

import re
import reprlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, NoReturn, cast, get_args

from data.samples.foreign_rows import as_row, describe_row
from data.samples.questions import Question
from data.samples.words import Word
from data.video.asked_frames import NOTHING_ASKED, AskedFrames
from data.video.frame_plan import FPS
from utils.errors import did_you_mean

MAX_TIME_S = 1e7  # 115 days; beyond it a time is a mistake, and exact tick arithmetic could overflow
MAX_FPS = 1000
MAX_PIXELS = 10**9  # of a frame or clip; beyond it a number is a mistake
Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = get_args(Role)
CONTEXT = ("previous", "title", "category")  # of a stream's query; published files also have it beside the video
# What stands in other projects' texts for a video or image. In backticks, or closed like a tag, it is spoken of.
MEDIA_MARK = re.compile(
    r"(?<!`)(?:<(video|image|audio)>(?!.*</\1>)|<(?:video|image)[-_ ]?(?:\d+|placeholder)>|<ImageHere>"
    r"|<\|(?:video|image|audio|vision)(?:_\w+)?\|>)(?!`)",
    re.DOTALL,
)
SIZE_KEYS = frozenset({"min_pixels", "max_pixels", "resized_height", "resized_width"})
CHOICE_KEYS = frozenset({"nframes", "min_frames", "max_frames"})
VIDEO_KEYS = frozenset({"type", "video", "video_start", "video_end", "pos", "sample_fps", "fps", "total_pixels"})
KEYS = {
    "text": frozenset({"type", "text", *CONTEXT}),
    "image": frozenset({"type", "image"}) | SIZE_KEYS,
    "video": VIDEO_KEYS | SIZE_KEYS | CHOICE_KEYS | frozenset(CONTEXT),
    "text_stream": frozenset({"type", "text_stream", "qa_stream"}),
}
# Keys of other tools that cannot be used, and why.
UNUSABLE = {
    "raw_fps": "frames are shown at sample_fps, whatever the film had; leave it out",
    "weight": "samples are weighted by file, with --annotation_weights; leave it out",
    "loss": "every answer is trained on; leave out those that should not be",
}


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
    """A video, or the part of it from video_start to video_end in seconds: a file, or a folder of its frames.

    pos: the file is a packed one, and these are the cumulative end offsets of its encoded frames. frames: images, in
    order, all of which are shown; video is then the first. sample_fps: how many frames of a folder or list make a
    second. asked: which frames are shown, and how large, in place of the run's own limits.
    """

    video: str
    video_start: float | None = None
    video_end: float | None = None
    pos: list[int] | None = None
    frames: tuple[str, ...] = ()
    sample_fps: float | None = None
    asked: AskedFrames = NOTHING_ASKED


@dataclass(frozen=True)
class ImageElement:
    """The path of an image; asked: how large it is shown."""

    image: str
    asked: AskedFrames = NOTHING_ASKED


@dataclass(frozen=True)
class WordsElement:
    """A word stream: what is said over a video, each word with its time, and what is asked in mid-stream."""

    words: list[Word]
    questions: list[Question] = field(default_factory=list)


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
    if (row := as_row(value)) is not None:
        raise Malformed(describe_row(row))
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
    _require_known(value, ("role", "content"), f"message {i}")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        _fail(f"the content of message {i} must be a string or a list of elements", content)
    elements = [_element(item, f"message {i}, element {j}") for j, item in enumerate(content)]
    _give_context(elements, content, f"message {i}")
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
        kind = next((name for name in PARSERS if value.get(name) is not None), None)
    if not isinstance(kind, str) or kind not in PARSERS:
        near = did_you_mean(kind, PARSERS) if isinstance(kind, str) else ""
        _fail(f"the type of {where} must be one of {', '.join(PARSERS)}{near}", kind, "unknown_element")
    _require_known(value, KEYS[kind], where)
    return PARSERS[kind](value, where)


def _require_known(value: dict, known: Collection[str], where: str) -> None:
    """Refuse keys that would be dropped; where rows of different forms became one table, they are null."""
    for name in value:
        if name not in known and value[name] is not None:
            why = UNUSABLE.get(name) or f"known are {', '.join(sorted(known))}{did_you_mean(name, known)}"
            _fail(f"{where}: unknown key {reprlib.repr(name)}; {why}; its value is", value[name], "unknown_key")


def _give_context(elements: list[Element], content: list, where: str) -> None:
    """Give the text of a message the context that stands beside its video, where it has none of its own."""
    beside = {
        name: _text(value[name], name, where)
        for value, element in zip(content, elements, strict=True)
        for name in CONTEXT
        if isinstance(element, VideoElement) and value.get(name)
    }
    if not beside:
        return
    at = next((i for i, element in enumerate(elements) if isinstance(element, TextElement)), None)
    if at is None:
        elements.append(TextElement("", **beside))
    else:
        text = cast(TextElement, elements[at])
        elements[at] = replace(text, **{name: given for name, given in beside.items() if not getattr(text, name)})


def _text_element(value: dict, where: str) -> TextElement:
    context = {name: _text(value[name], name, where) for name in CONTEXT if value.get(name)}
    return TextElement(_plain_text(value.get("text"), "text", where), **context)


def _video_element(value: dict, where: str) -> VideoElement:
    start_s, end_s = (_optional_seconds(value, name, where) for name in ("video_start", "video_end"))
    if start_s is not None and end_s is not None and start_s > end_s:
        _fail(f"{where}: video_start must not be later than video_end; they are", [start_s, end_s], "bad_time")
    pos, rate = value.get("pos"), _number(value, "sample_fps", where, MAX_FPS)
    asked, video = _asked_frames(value, where), value.get("video")
    if isinstance(video, list) and video:
        return _listed_frames(value, where, asked, rate)
    pos = None if pos is None else _pos(pos, where)
    return VideoElement(_path(video, "video", where), start_s, end_s, pos, sample_fps=rate, asked=asked)


def _listed_frames(value: dict, where: str, asked: AskedFrames, rate: float | None) -> VideoElement:
    """A video whose frames are named one by one, all of which are shown."""
    unused = ("video_start", "video_end", "pos", "fps", *sorted(CHOICE_KEYS))
    for name in unused:
        if value.get(name) is not None:
            _fail(f"{where}: {name} is not used with a list of frames, which is shown whole; list others", value[name])
    frames = tuple(_path(frame, f"frame {i} of video", where) for i, frame in enumerate(value["video"]))
    return VideoElement(frames[0], frames=frames, sample_fps=rate, asked=asked)


def _asked_frames(value: dict, where: str) -> AskedFrames:
    """The choice and size of frames in Qwen's message format."""
    asked = AskedFrames(
        fps=_number(value, "fps", where, MAX_FPS),
        **{name: _whole(value, name, where, MAX_PIXELS) for name in (*CHOICE_KEYS, *SIZE_KEYS, "total_pixels")},
    )
    if asked.fps is not None and asked.nframes is not None:
        _fail(f"{where}: give fps or nframes, not both; they are", [asked.fps, asked.nframes])
    sides = [asked.resized_height, asked.resized_width]
    if sides.count(None) == 1:
        _fail(f"{where}: resized_height and resized_width go together; they are", sides)
    return asked


def _image_element(value: dict, where: str) -> ImageElement:
    return ImageElement(_path(value.get("image"), "image", where), _asked_frames(value, where))


def _words_element(value: dict, where: str) -> WordsElement:
    entries, asked = value.get("text_stream"), value.get("qa_stream") or []
    if not isinstance(entries, list):
        _fail(f"{where}: text_stream must be a list of [start, end, word]", entries)
    if not isinstance(asked, list):
        _fail(f"{where}: qa_stream must be a list of [number, time, question, answer]", asked)
    if not entries and not asked:
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
    questions = [_question(entry, f"{where}, question {i}") for i, entry in enumerate(asked)]
    return WordsElement(words, sorted(questions, key=lambda question: question.time_s))


def _question(value: Any, where: str) -> Question:
    """A question of qa_stream; its first value is not used, as in the published reader."""
    if not isinstance(value, list) or len(value) != 4:
        _fail(f"{where} of qa_stream must be [number, time, question, answer]", value)
    texts = [_plain_text(text, name, where) for text, name in zip(value[2:], ("question", "answer"), strict=True)]
    if not all(map(str.strip, texts)):
        _fail(f"{where} of qa_stream needs a question and an answer; remove it", value, "empty_message")
    return Question(_seconds(value[1], f"the time of {where}"), *texts)


def _word(value: Any, where: str) -> Word:
    if isinstance(value, dict) and "word" in value:
        _fail(f"{where} must be [start, end, word], and this is an object, as whisperX writes them", value)
    if not isinstance(value, list) or len(value) != 3:
        _fail(f"{where} must be [start, end, word]", value)
    if value[0] is None or value[1] is None:
        _fail(
            f"{where} has no time (whisperX gives none to numbers and signs that it cannot align); give it a time "
            "between its neighbours', or leave it out",
            value,
            "bad_time",
        )
    start_s, end_s = _seconds(value[0], f"the start of {where}"), _seconds(value[1], f"the end of {where}")
    if start_s > end_s:
        _fail(f"{where} must not end before it starts", value, "bad_time")
    return Word(start_s, end_s, _plain_text(value[2], "the word", where))


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str):
        _fail(f"{where}: {name} must be a string", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        _fail(f"{where}: {name} holds half of a surrogate pair; write the character whole", value, "malformed_json")
    return value


def _plain_text(value: Any, name: str, where: str) -> str:
    """A text without the marks by which other projects say where media stand."""
    text = _text(value, name, where)
    if "<" in text and (mark := MEDIA_MARK.search(text)):
        _fail(
            f"{where}: {mark[0]} in its {name} would be read as text; take it out and give the video or image as an "
            'element of the message, {"type": "video", "video": PATH}',
            text[max(0, mark.start() - 20) :],
            "media_mark",
        )
    return text


def _path(path: Any, name: str, where: str) -> str:
    path = _text(path, name, where)
    if not path or "\0" in path:
        _fail(f"{where}: {name} must be the path of a file", path)
    if path.startswith(("http://", "https://", "data:")):
        _fail(f"{where}: {name} must be a local file; download it first", path)
    return path


def _number(value: dict, name: str, where: str, most: float) -> float | None:
    number = value.get(name)
    if number is not None and (type(number) not in (int, float) or not 0 < number <= most):
        _fail(f"{where}: {name} must be a number above 0 and at most {most:g}", number)
    return number


def _whole(value: dict, name: str, where: str, most: int) -> int | None:
    number = _number(value, name, where, most)
    if number is not None and number != int(number):
        _fail(f"{where}: {name} must be a whole number", number)
    return None if number is None else int(number)


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
    _check_streamed(next(element for element in spoken[0].elements if isinstance(element, VideoElement)))


def _check_streamed(video: VideoElement) -> None:
    """The frames of a stream follow the clock of its words, 2 a second."""
    if video.pos:
        _fail("packed frames (pos) have no times, so they cannot carry a text_stream; pos", video.pos)
    if video.frames and not video.sample_fps:
        _fail("listed frames need sample_fps, how many make a second, to carry a text_stream; video", video.frames)
    chosen = {name: getattr(video.asked, name) for name in sorted(CHOICE_KEYS)} | {"fps": video.asked.fps}
    for name, asked in chosen.items():
        if asked is not None and (name, asked) != ("fps", FPS):
            _fail(f"a text_stream is shown at {FPS} frames a second, every one of them: leave out {name}; it is", asked)


PARSERS: dict[str, Callable[[dict, str], Element]] = {
    "text": _text_element,
    "video": _video_element,
    "image": _image_element,
    "text_stream": _words_element,
}


def _fail(rule: str, value: Any, cause: str = "malformed_sample") -> NoReturn:
    raise Malformed(f"{rule}: {reprlib.repr(value)}", cause)
