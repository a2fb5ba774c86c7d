"""demo/cli.py: records, questions, clean JSON on a pipe, a real terminal, interruption, and bad input."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import pytest
import torch
from wcwidth import width

from data.video.live import TimedFrame
from demo.terminal import TerminalView, clock_time, queue_lines
from demo.viewing import Viewing
from models.load import load_checkpoint
from models.streaming.options import StreamOptions
from models.streaming.session import StreamingSession, comment, timed_frames
from tests.conftest import REPOSITORY
from tests.videos import make_video
from tests.waiting import PATIENCE_S
from utils.errors import UserError


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of 56x84 pixels."""
    return make_video(tmp_path_factory.mktemp("cli") / "short clip.mp4", 60, size_hw=(56, 84), fps=10)


def command(checkpoint: Path, video: Path, *more: str) -> list[str]:
    model = ["--model_name_or_path", str(checkpoint), "--video", str(video), "--max_pixels", "4704"]
    return [sys.executable, "demo/cli.py", *model, "--max_answer_tokens", "6", "--device", "cpu", *more]


def run_cli(words: list[str], typed: str = "") -> subprocess.CompletedProcess:
    return subprocess.run(words, cwd=REPOSITORY, input=typed, capture_output=True, text=True, timeout=PATIENCE_S)


def test_a_pipe_gets_json_lines_and_nothing_else(tiny_checkpoint, video, tmp_path):
    saved = tmp_path / "said.json"
    words = command(tiny_checkpoint, video, "--as_fast_as_possible", "--output_json", str(saved))
    done = run_cli(words, "What is the score?\n/help\n")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [record["type"] for record in records]
    assert kinds[0] == "header" and kinds[-1] == "end" and kinds.count("answer") == 1
    steps = [record for record in records if record["type"] == "step"]
    assert [(step["start_s"], step["end_s"]) for step in steps] == [(0, 3), (3, 4), (4, 5), (5, 6)]
    assert records[-1]["reason"] == "end of video" and records[-1]["n_steps"] == 4
    assert "/quit" in done.stderr and "position mode mrope" in done.stderr
    assert "Traceback" not in done.stderr
    whole = json.loads(saved.read_text())
    assert whole["steps"] == steps and whole["answers"][0]["question"] == "What is the score?"
    assert whole["end"]["n_steps"] == 4


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--video", "none.mp4"], "none.mp4: no such file"),
        (["--model_name_or_path", "./none"], "./none: no checkpoint folder"),
        (["--as_fast_as_posible"], "did you mean --as_fast_as_possible"),
        (["--max_new_tokens", "0"], "--max_new_tokens 0: must be 1 or more"),
        (["--query", " "], "--query is empty"),
        (["--output_json", "no/such/folder.json"], "its folder is not there"),
    ],
)
def test_bad_input_is_one_message_and_status_2(tiny_checkpoint, video, flags, expected):
    done = run_cli(command(tiny_checkpoint, video, *flags))
    assert done.returncode == 2 and expected in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


@pytest.mark.parametrize(
    ("number", "status", "reason"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGHUP, 129, "stopped by SIGHUP"),
    ],
)
def test_interrupt_ends_the_record(tiny_checkpoint, video, tmp_path, number, status, reason):
    saved = tmp_path / "gesagt é.json"
    process = subprocess.Popen(
        command(tiny_checkpoint, video, "--output_json", str(saved)), cwd=REPOSITORY, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Tests that run in the background of a shell have it ignored, and would hand that on.
        preexec_fn=partial(signal.signal, number, signal.SIG_DFL),
    )  # fmt: skip
    assert json.loads(process.stdout.readline())["type"] == "header"
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status and "Traceback" not in err
    *said, end = (json.loads(line) for line in out.splitlines())
    assert end["type"] == "end" and end["reason"] == reason
    whole = json.loads(saved.read_text(encoding="utf-8"))
    assert whole["end"] == end and whole["steps"] == [record for record in said if record["type"] == "step"]


def test_what_libraries_print_is_no_record():
    """By print, or in C straight to the descriptor."""
    code = """
import os
from demo.terminal import claimed_stdout
with claimed_stdout() as stdout:
    print("noise", flush=True)
    os.write(1, b"more noise\\n")
    print("Größe", file=stdout, flush=True)
print("afterwards")
"""
    done = run_cli([sys.executable, "-X", "utf8", "-c", code])
    assert (done.stdout, done.stderr) == ("Größe\nafterwards\n", "noise\nmore noise\n")


def test_a_closed_reader_ends_it_quietly(tiny_checkpoint, video):
    words = command(tiny_checkpoint, video, "--as_fast_as_possible")
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -n 1', "bash", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert json.loads(done.stdout)["type"] == "header"
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


class Terminal:
    """A process on a pseudo terminal."""

    def __init__(self, words: list[str], **variables: str):
        self.main, worker = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40", **variables}
        self.process = subprocess.Popen(
            words, cwd=REPOSITORY, env=environment, stdin=worker, stdout=worker, stderr=worker, close_fds=True
        )
        os.close(worker)
        self.text = self.codes = ""  # what was printed without its escape codes, and with them

    def read_until(self, wanted: str, seconds: float = PATIENCE_S) -> None:
        """Read until `wanted` stands in what was printed since the start, escape codes removed."""
        end = time.monotonic() + seconds
        while wanted not in self.text:
            if time.monotonic() > end:
                self.process.kill()  # else it would wait for questions for ever
                pytest.fail(f"no {wanted!r} within {seconds} s in:\n{self.text}")
            if select.select([self.main], [], [], 0.2)[0]:
                self._read()

    def _read(self) -> None:
        block = os.read(self.main, 65536).decode("utf-8", "replace")
        if "\x1b[6n" in block:  # asked where the cursor is, a terminal answers
            os.write(self.main, b"\x1b[1;1R")
        self.codes += block
        self.text += re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[=>])", "", block)

    def type(self, text: str) -> None:
        os.write(self.main, text.encode())

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """Exit status, reading on so that the process never waits for us."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            if time.monotonic() > end:
                self.process.kill()
                pytest.fail(f"still running after {seconds} s; printed:\n{self.text}")
            if select.select([self.main], [], [], 0.2)[0]:
                try:
                    self._read()
                except OSError:
                    break
        return self.process.wait(timeout=PATIENCE_S)


def test_a_terminal_answers_while_it_comments(tiny_checkpoint, video, tmp_path):
    saved = tmp_path / "typed.json"
    # Sampled: the likeliest tokens of a random model are often no text at all.
    terminal = Terminal(command(tiny_checkpoint, video, "--greedy", "False", "--max_lag_s", "60"))
    terminal.read_until("00:00.0-00:03.0")
    terminal.type("Who leads?\r")
    terminal.read_until("asked at")
    terminal.type("/help\r")
    terminal.read_until("/save FILE")
    terminal.read_until("The video has ended")
    terminal.type(f"/save {saved}\r")
    terminal.read_until("saved to")
    terminal.type("/quit\r")
    assert terminal.wait() == 0, terminal.text
    whole = json.loads(saved.read_text())
    assert whole["answers"][0]["question"] == "Who leads?" and len(whole["steps"]) == 4


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"NO_COLOR": "1"}], ids=str)
def test_a_plain_terminal_gets_no_escape_codes(tiny_checkpoint, video, variables):
    terminal = Terminal(command(tiny_checkpoint, video, "--max_lag_s", "60", "--as_fast_as_possible"), **variables)
    terminal.type("Who leads?\n")
    terminal.read_until("The video has ended")
    terminal.read_until("asked at")
    terminal.type("\x04")  # Ctrl-D
    assert terminal.wait() == 0, terminal.text
    assert "\x1b" not in terminal.codes and "quit: 4 steps" in terminal.text


def test_ctrl_c_in_a_terminal(tiny_checkpoint, video):
    terminal = Terminal(command(tiny_checkpoint, video))
    terminal.read_until(">")  # the input line is up; before it Ctrl-C is a signal that this terminal cannot send
    terminal.type("\x03")
    assert terminal.wait() == 130 and "Traceback" not in terminal.text


class RecordingView:
    stays = False

    def __init__(self, *lines):
        self.lines = SimpleQueue()
        self.shown, self.said = [], []
        for line in lines:
            self.lines.put(line)

    def show(self, record):
        self.shown.append(record)

    def progress(self, text):
        self.shown.append({"type": "progress", "text": text})

    def say(self, text):
        self.said.append(text)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32")


def film(n_frames: int) -> list[TimedFrame]:
    seeded = torch.Generator().manual_seed(1)
    return list(timed_frames(torch.randint(0, 256, (n_frames, 3, 56, 84), dtype=torch.uint8, generator=seeded)))


def watch(checkpoint, view, n_frames: int, **options) -> Viewing:
    viewing = Viewing(checkpoint, StreamOptions(max_new_tokens=4, max_answer_tokens=8, **options), view, {})
    assert viewing.run(film(n_frames), realtime=False, max_lag_s=2) == 0
    return viewing


def said_of(view: RecordingView, kind: str) -> list[dict]:
    return [record for record in view.shown if record["type"] == kind]


def test_an_answer_comes_beside_the_commentary_from_what_the_first_step_saw(checkpoint):
    view = RecordingView("why?")
    watch(checkpoint, view, 12)
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=4, max_answer_tokens=8))
    steps = comment(session, film(12))
    first = next(steps)
    expected = "".join(session.ask("why?")).strip()
    texts = [first.text, *(step.text for step in steps)]
    (answer,) = said_of(view, "answer")
    assert (answer["text"], answer["asked_s"], answer["question"]) == (expected, 3.0, "why?")
    assert [step["text"] for step in said_of(view, "step")] == texts and len(set(texts)) > 1
    assert said_of(view, "progress")[-1]["text"].strip() == expected


def test_a_remembered_answer_is_complete_before_the_next_step(checkpoint):
    view = RecordingView("why?")
    watch(checkpoint, view, 12, remember_questions=True)
    kinds = [record["type"] for record in view.shown if record["type"] != "progress"]
    assert kinds[:4] == ["header", "step", "answer", "step"]


def test_a_question_rides_on_the_next_step_under_compat(checkpoint):
    views = RecordingView("why?"), RecordingView()
    for view in views:
        watch(checkpoint, view, 8, compat="livecc")
    assert "next step" in views[0].said[0] and not said_of(views[0], "answer")
    asked, plain = ([step["n_context"] for step in said_of(view, "step")] for view in views)
    assert asked[0] == plain[0] and asked[1] > plain[1]


def test_quit_and_unknown_commands(checkpoint, tmp_path):
    view = RecordingView("/nonsense", f"/save {tmp_path / 'no' / 'folder.json'}", "/quit")
    watch(checkpoint, view, 40)
    assert view.shown[-1]["reason"] == "quit" and view.shown[-1]["n_steps"] < 18
    assert "no such command" in view.said[0] and "another path" in view.said[1]


def test_a_films_frames_come_when_they_have_played(checkpoint, monkeypatch):
    waited = []
    monkeypatch.setattr("demo.viewing.Clock.wait_until", lambda clock, second: waited.append(second))
    for realtime in (True, False):
        options = StreamOptions(max_new_tokens=2)
        Viewing(checkpoint, options, RecordingView(), {}).run(film(8), realtime=realtime, max_lag_s=60)
    assert waited == [i / 2 + 0.5 for i in range(8)]


def test_the_end_accounts_for_every_frame(checkpoint):
    view = RecordingView()
    watch(checkpoint, view, 13)
    end, steps = view.shown[-1], said_of(view, "step")
    assert end["n_frames"] == 13 == sum(step["n_frames"] for step in steps) and end["n_dropped"] == 0


def test_a_source_that_fails_is_said_and_ends_the_record(checkpoint):
    def broken():
        yield from film(8)
        raise UserError("camera: unplugged")

    view = RecordingView()
    with pytest.raises(UserError, match="camera: unplugged"):
        Viewing(checkpoint, StreamOptions(max_new_tokens=2), view, {}).run(broken(), realtime=False, max_lag_s=2)
    assert view.shown[-1]["type"] == "end" and view.shown[-1]["reason"] == "error: camera: unplugged"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", ["first\nsecond é", "q\r\n", "", "e"])
def test_lines_come_whole_from_a_pipe(encoding, text):
    reading, writing = os.pipe()
    lines = SimpleQueue()
    writer = threading.Thread(target=write_bytewise, args=(writing, text.encode(encoding)))
    writer.start()
    queue_lines(reading, lines, "/quit")
    writer.join()
    os.close(reading)
    assert [lines.get() for _ in range(lines.qsize())] == [*filter(None, text.split("\n")), "/quit"]


def write_bytewise(descriptor: int, data: bytes) -> None:
    with os.fdopen(descriptor, "wb", buffering=0) as pipe:
        for at in range(len(data)):
            pipe.write(data[at : at + 1])


def test_terminal_lines(capsys):
    view = TerminalView()
    step = {
        "type": "step",
        "start_s": 3,
        "end_s": 4,
        "text": "Goal!",
        "latency_s": 0.05,
        "lag_s": 0.1,
        "n_dropped": 4,
    }
    view.show(step)
    view.show(step | {"text": "", "n_dropped": 0})
    printed = capsys.readouterr().out
    assert "00:03.0-00:04.0" in printed and "50 ms" in printed and "4 frames dropped" in printed
    assert printed.count("\n") == 1 and clock_time(75.5) == "01:15.5"
    for text in ("Goal!", "\u1100\u1161\u11a8 球", "👨‍👩‍👧‍👦🇰🇷"):  # the speeds stand below each other
        view.show(step | {"text": text})
        assert width(capsys.readouterr().out.partition("latency")[0]) == width(printed.partition("latency")[0])
