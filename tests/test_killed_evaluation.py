"""An evaluation killed at any moment and finished by other processes has the answers of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.evaluation import ROOT, answers, command, environment, make_videomme, run

N_VIDEOS = 24
BROKEN = 5  # one video


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory) -> Path:
    return make_videomme(tmp_path_factory.mktemp("benchmark"), N_VIDEOS, broken=[BROKEN])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, tiny_checkpoint, benchmark) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(command(tiny_checkpoint, benchmark, folder, "--both_settings"), status=3)
    return folder


def kill_while_it_answers(words: list[str], folder: Path, n_answers: int, rng: random.Random) -> tuple[int, int]:
    """Start a command, and kill it and its workers a random moment after it has written so many more answers.

    Returns how many answers there were before it started, and when it was killed.
    """
    before = n_lines(folder)
    process = subprocess.Popen(
        words, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while n_lines(folder) < before + n_answers and process.poll() is None:
        time.sleep(0.002)
    time.sleep(rng.random() * 0.05)
    assert process.poll() is None, "it ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    return before, n_lines(folder)


def n_lines(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in (folder / "answers").glob("answers-*.jsonl"))


def writers(folder: Path) -> set[str]:
    """Machine and process of everyone who kept an answer."""
    return {path.stem.rsplit("-", 1)[0] for path in (folder / "answers").glob("answers-*.jsonl")}


def test_killed_and_finished_by_others(request, tiny_checkpoint, benchmark, undisturbed, tmp_path):
    n_kills = request.config.getoption("--kills")
    rng = random.Random(n_kills)
    words = command(tiny_checkpoint, benchmark, tmp_path, "--both_settings")
    killed = []
    for kill in range(n_kills):
        n_answers = rng.randrange(1, 2 * 3 * N_VIDEOS // (n_kills + 1) - 6)
        workers = ["--num_workers", str(1 + kill % 3)]
        killed.append(kill_while_it_answers([*words, *workers], tmp_path, n_answers, rng))
        assert len(writers(tmp_path)) > kill
    # Each was killed at work: with more answers than it found, and not all of them.
    assert len(killed) == n_kills and all(found < kept < 2 * 3 * N_VIDEOS for found, kept in killed)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run([*torchrun, *words[1:]], cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode, "a video is broken, which the exit status must say"
    assert len(writers(tmp_path)) > n_kills
    asked = answers(tmp_path)
    assert len(asked) == 2 * 3 * N_VIDEOS
    assert_same(asked, answers(undisturbed))
    assert {item for (_, item), (answer, _) in asked.items() if answer is None} == questions_about(BROKEN)


def assert_same(some: dict, others: dict) -> None:
    """The same answers, and logits within rounding: what a video's first question was decides where prompts are cut."""
    for key, (answer, logits) in some.items():
        assert answer == others[key][0]
        assert logits == (others[key][1] and pytest.approx(others[key][1], abs=1e-4))


def questions_about(video: int) -> set[str]:
    return {f"{video:03d}-{number}" for number in (1, 2, 3)}


def test_a_broken_video_changes_nothing_but_its_rows(tiny_checkpoint, undisturbed, tmp_path):
    whole = make_videomme(tmp_path / "whole", N_VIDEOS)
    run(command(tiny_checkpoint, whole, tmp_path / "out", "--both_settings"))
    with_all, with_one_broken = answers(tmp_path / "out"), answers(undisturbed)
    differing = {item for (setting, item), answer in with_all.items() if with_one_broken[setting, item] != answer}
    assert differing == questions_about(BROKEN)


def test_settings_asked_together_and_apart_agree(tiny_checkpoint, benchmark, undisturbed, tmp_path):
    run(command(tiny_checkpoint, benchmark, tmp_path, "--with_subtitles"), status=3)
    assert_same(answers(tmp_path), answers(undisturbed))
