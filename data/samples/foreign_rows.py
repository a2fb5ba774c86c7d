"""Rows of other projects' annotation files: named, with how the same is written here."""

import reprlib
from collections.abc import Mapping

SAMPLE = (
    '[{"role": "user", "content": [{"type": "video", "video": "a.mp4"}, {"type": "text", "text": "What happens?"}]}, '
    '{"role": "assistant", "content": "A goal."}]'
)
MEDIA = "each <image> or <video> of the texts becomes an element of its own"
# What a row has, whose form that is, and what to change; the first that fits.
FORMS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("conversations",),
        "LLaVA or ShareGPT",
        f"take `conversations` alone, with `from` (human, gpt) as role (user, assistant), `value` as content; {MEDIA}",
    ),
    (("messages",), "LLaMA-Factory, swift or OpenAI", f"take `messages` alone; {MEDIA}"),
    (
        ("instruction", "output"),
        "Alpaca",
        "make `instruction` and `input` the user's message and `output` the assistant's",
    ),
    (("query", "response"), "swift", f"make `query` the user's message and `response` the assistant's; {MEDIA}"),
    (("segments",), "whisper or whisperX", "make a text_stream of its words: [[start_s, end_s, word], ...]"),
    (("conversation",), "data.production", "take `conversation` alone, or the file that the run wrote for training"),
    (("captions",), "data.production", "run the stages that make samples of records: python -m data.production.run"),
    (("words",), "data.production", "run python -m data.production.to_conversation"),
    (("question", "answer"), "question answering sets", "make them the user's and the assistant's message"),
)


def describe_row(row: Mapping) -> str:
    """Say of an object whose form it is: the end of a message about a line that should be a list of messages."""
    form = _form(row)
    whose = f"in the form of {form[1]}" if form else "of no known form"
    return f"a sample must be a list of messages, and this is an object {whose}, with {reprlib.repr(list(row))}"


def explain_row(row: Mapping) -> str:
    """The same, with what to change and a sample: for a whole file of such rows."""
    form = _form(row)
    return f"{describe_row(row)}; {f'{form[2]}; ' if form else ''}one line looks like this: {SAMPLE}"


def as_row(line: object) -> Mapping | None:
    """A parsed line as the row of another project, None where it may be a sample."""
    if isinstance(line, list) and line and isinstance(line[0], dict) and {"from", "value"} <= line[0].keys():
        return {"conversations": line}
    return line if isinstance(line, dict) else None


def _form(row: Mapping) -> tuple[tuple[str, ...], str, str] | None:
    return next((form for form in FORMS if all(row.get(name) is not None for name in form[0])), None)
