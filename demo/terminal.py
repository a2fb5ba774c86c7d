"""View of the command line: a terminal with an input line, a plain terminal, or JSON lines."""

import codecs
import contextlib
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from queue import SimpleQueue
from typing import TextIO

from wcwidth import ljust

DIM, BOLD, PLAIN = "\033[2m", "\033[1m", "\033[0m"
STYLE = re.compile(r"\033\[\d+m")
LONGEST_MARK = 4  # bytes of a byte order mark
TEXT_COLUMNS = 48  # of a step, so that the speeds behind it stand below each other


@contextlib.contextmanager
def claimed_stdout() -> Iterator[TextIO]:
    """The process's stdout; unless it is a terminal it is ours alone, and libraries print to stderr."""
    if sys.stdout.isatty():
        yield sys.stdout
        return
    sys.stdout.flush()
    stdout, stderr = sys.stdout.fileno(), sys.stderr.fileno()
    with open(os.dup(stdout), "w", encoding="utf-8") as claimed:
        os.dup2(stderr, stdout)
        try:
            yield claimed
        finally:
            os.dup2(claimed.fileno(), stdout)


@contextlib.contextmanager
def open_view(stdin: TextIO | None, stdout: TextIO) -> Iterator["JsonView | TerminalView"]:
    """The view that fits: an input line when both ends are a terminal, JSON lines when stdout is piped.

    Without stdin (it carries the video) nothing can be typed. Under TERM=dumb or NO_COLOR no escape code is written, so
    there is no input line either: the terminal's own takes the questions.
    """
    typed = stdin is not None and stdout.isatty() and stdin.isatty()
    styled = os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
    if typed and styled:
        with prompting_view() as view:
            yield view
        return
    view = TerminalView(styled, stays=typed) if stdout.isatty() else JsonView(stdout)
    if stdin is not None and (typed or not stdin.isatty()):
        at_end = "/quit" if typed else None
        threading.Thread(target=queue_lines, args=(stdin.fileno(), view.lines, at_end), daemon=True).start()
    yield view


def queue_lines(descriptor: int, lines: SimpleQueue, at_end: str | None = None) -> None:
    """Put the lines of a file descriptor into the queue until it ends, and then `at_end`.

    os.read, not the text layer: a thread waiting inside sys.stdin would hold its lock when the process ends.
    """
    block = _read(descriptor)
    while len(block) < LONGEST_MARK and b"\n" not in block and (more := _read(descriptor)):
        block += more
    decoder = codecs.getincrementaldecoder(encoding_of(block))("replace")
    rest = ""
    while block:
        *complete, rest = (rest + decoder.decode(block)).split("\n")
        for line in complete:
            lines.put(line)
        block = _read(descriptor)
    rest += decoder.decode(b"", final=True)
    for line in (rest, at_end):
        if line:
            lines.put(line)


def encoding_of(start: bytes) -> str:
    """Encoding of a text by its byte order mark or, as Windows shells leave it out, by the NULs of UTF-16."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-32" if start.startswith(codecs.BOM_UTF32_LE) else "utf-16"
    if b"\0" in start[:2]:
        return "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
    return "utf-8-sig"


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # a closed standard input is an empty one
        return b""


class JsonView:
    """One JSON object a line on `stdout`, flushed as it comes; everything else goes to stderr."""

    stays = False

    def __init__(self, stdout: TextIO):
        self.stdout = stdout
        self.lines: SimpleQueue = SimpleQueue()

    def show(self, record: dict) -> None:
        """Write the record; the header's note also goes to stderr, where a person may read it."""
        if record.get("note"):
            self.say(record["note"])
        print(json.dumps(record, ensure_ascii=False), file=self.stdout, flush=True)

    def progress(self, text: str) -> None:
        """Do nothing: an answer is one record."""

    def say(self, text: str) -> None:
        """Print to stderr."""
        print(text, file=sys.stderr, flush=True)


class TerminalView:
    """Timestamped lines for a person. A silent step prints nothing; `status` has the time.

    styled: with escape codes for bold and dim. stays: whether to wait for more questions when the video has ended.
    """

    def __init__(self, styled: bool = True, stays: bool = False):
        self.styled, self.stays = styled, stays
        self.lines: SimpleQueue = SimpleQueue()
        self.status = ""

    def show(self, record: dict) -> None:
        """Print a record in its own form."""
        lines = {"header": header_lines, "step": step_lines, "answer": answer_lines, "end": end_lines}
        for line in lines[record["type"]](record):
            print(line if self.styled else STYLE.sub("", line), flush=True)
        if record["type"] == "step":
            self.status = f"{clock_time(record['end_s'])}  {speed(record)}"
        elif record["type"] == "answer":
            self.status = ""

    def progress(self, text: str) -> None:
        """Keep the beginning of an answer for the status line."""
        self.status = f"> {text}"

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, flush=True)


def clock_time(seconds: float) -> str:
    """12.5 -> 00:12.5"""
    return f"{int(seconds // 60):02d}:{seconds % 60:04.1f}"


def speed(step: dict) -> str:
    """Latency and lag of a step in words; frames that were dropped are never hidden."""
    dropped = f", {step['n_dropped']} frames dropped" if step["n_dropped"] else ""
    return f"latency {step['latency_s'] * 1000:.0f} ms, lag {step['lag_s']:.2f} s{dropped}"


def header_lines(record: dict) -> list[str]:
    """Model, video and query; then the note on what the model knows."""
    what = f"{record['model']} ({record['device']}, {record['dtype']}, positions {record['position_mode']})"
    lines = [f"{DIM}{what} watches {record['video']}{PLAIN}", f"{DIM}{record['query']}{PLAIN}"]
    return [*lines, f"{DIM}{record['note']}{PLAIN}"] if record.get("note") else lines


def step_lines(record: dict) -> list[str]:
    """The time span and the words; a silent step has no line unless frames were dropped."""
    if not record["text"] and not record["n_dropped"]:
        return []
    span = f"{clock_time(record['start_s'])}-{clock_time(record['end_s'])}"
    return [f"{BOLD}{span}{PLAIN}  {ljust(record['text'], TEXT_COLUMNS)}  {DIM}{speed(record)}{PLAIN}"]


def answer_lines(record: dict) -> list[str]:
    """The question and its answer."""
    asked = f"{DIM}(asked at {clock_time(record['asked_s'])}, {record['seconds']:.1f} s){PLAIN}"
    text = f"({record['unanswered']})" if "unanswered" in record else record["text"]
    return [f"{BOLD}? {record['question']}{PLAIN}", f"  {text}  {asked}"]


def end_lines(record: dict) -> list[str]:
    """Totals."""
    total = f"{record['n_steps']} steps, {record['n_words']} words, {record['n_dropped']} frames dropped"
    if record["n_steps"]:
        total += f", median latency {record['median_latency_s'] * 1000:.0f} ms"
        total += f", largest lag {record['max_lag_s']:.2f} s"
    return [f"{DIM}{record['reason']}: {total}{PLAIN}"]


@contextlib.contextmanager
def prompting_view() -> Iterator[TerminalView]:
    """A terminal view with an input line at the bottom, read in a thread of its own."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.patch_stdout import patch_stdout

    view = TerminalView(stays=True)
    prompt = PromptSession("> ", bottom_toolbar=lambda: view.status or "/help", refresh_interval=0.2)
    reader = threading.Thread(target=read_prompt, args=(prompt, view.lines), daemon=True)
    with patch_stdout(raw=True):
        reader.start()
        try:
            yield view
        finally:
            close_prompt(prompt, reader)


def read_prompt(prompt, lines: SimpleQueue) -> None:
    """Put typed lines into the queue; Ctrl-D is /quit, Ctrl-C is None."""
    while True:
        try:
            line = prompt.prompt(handle_sigint=False)
        except EOFError:
            line = "/quit"
        except KeyboardInterrupt:
            line = None
        lines.put(line)
        if line is None or line.strip() == "/quit":
            return


def close_prompt(prompt, reader: threading.Thread) -> None:
    """Take the input line away and give the terminal back as it was."""
    if reader.is_alive() and prompt.app.loop is not None and prompt.app.is_running:
        prompt.app.loop.call_soon_threadsafe(lambda: prompt.app.exit(exception=EOFError))
    reader.join(timeout=2)
