"""One process or several: who is started, what each knows of itself, and the exit status of them all."""

import json
import os
import signal
import time
from functools import partial
from pathlib import Path

from evaluation.runner import processes
from evaluation.runner.processes import launch

LIMIT_S = 120.0


def meet(folder: Path, statuses: tuple[int, ...], device: str | None) -> int:
    """Write who this process is, wait for the others, and end as told; a negative status is a signal."""
    rank, n = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    (folder / f"{rank}.partial").write_text(json.dumps([os.getpid(), os.getppid(), n, device]))
    (folder / f"{rank}.partial").rename(folder / f"{rank}.json")
    end = time.monotonic() + LIMIT_S
    while len(list(folder.glob("*.json"))) < n and time.monotonic() < end:
        time.sleep(0.01)
    if statuses[rank] < 0:
        os.kill(os.getpid(), -statuses[rank])
    return statuses[rank]


def test_two_processes_run_at_once_and_none_dies_unseen(tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert launch(partial(meet, tmp_path, (0, -signal.SIGKILL)), 2) == 128 + signal.SIGKILL
    found = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]
    assert len({pid for pid, *_ in found} | {os.getpid()}) == 3
    assert [(parent, n) for _, parent, n, _ in found] == [(os.getpid(), 2)] * 2


def test_alone_it_is_this_process(tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert launch(partial(meet, tmp_path, (5,)), 1) == 5
    assert json.loads((tmp_path / "0.json").read_text())[0] == os.getpid()


def test_a_process_of_torchrun_is_one_of_its_run(tmp_path, monkeypatch):
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "n_gpus", lambda: 0)  # torch is not imported for it
    assert launch(partial(meet, tmp_path, (0, 4)), 2) == 4
    assert json.loads((tmp_path / "1.json").read_text())[0] == os.getpid()
