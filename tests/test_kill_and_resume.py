"""scripts/kill_and_resume.py counts what it has shown: a kill that came too late is none."""

import random
import sys
from pathlib import Path

import pytest

from scripts import kill_and_resume
from scripts.kill_and_resume import run_with_kills
from utils.errors import UserError

# A stand-in for train.py: it logs four steps and waits to be killed, or ends with a status at once.
RUN = """
import sys, time
log, status = sys.argv[1:]
if status != "none":
    sys.exit(int(status))
with open(log, "a+") as file:
    file.seek(0)
    n_done = len(file.readlines())
    file.writelines('{"step": %d}\\n' % (n_done + i) for i in (1, 2, 3, 4))
time.sleep(600)
"""


@pytest.fixture
def killed(tmp_path: Path, monkeypatch):
    """The steps of the kills that hit a stand-in; status: with which it ends before any kill."""

    def of(n_kills: int, status: int | None = None) -> list[int]:
        words = [sys.executable, "-c", RUN, str(tmp_path / "train_log.jsonl"), str(status).lower()]
        monkeypatch.setattr(kill_and_resume, "_command", lambda flags: words)
        monkeypatch.setattr(kill_and_resume, "train_to_end", lambda flags: None)
        return run_with_kills([], tmp_path, n_kills, 4 * n_kills, random.Random(0))

    return of


def test_kills_that_hit_are_counted(killed, capsys):
    steps = killed(2)
    assert steps == [4, 8]
    assert "missed" not in capsys.readouterr().out


def test_a_run_that_had_ended_was_not_killed(killed, capsys):
    assert killed(1, status=0) == []
    assert "kill 1: missed, the run had ended" in capsys.readouterr().out


def test_a_run_that_fails_is_said(killed):
    with pytest.raises(UserError, match=r"train\.py ended with 3"):
        killed(1, status=3)
