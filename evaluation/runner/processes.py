"""Processes of a run: under torchrun, started here, or one alone; each with its device."""

import multiprocessing
import os
from collections.abc import Callable

from utils.errors import run_command


def launch(work: Callable[[str | None], int], num_workers: int = 0) -> int:
    """Call `work(device)` in every process of a run and return the exit status.

    Under torchrun this process is one of the run. Otherwise num_workers processes are started; 0: one for each GPU, or
    this one alone. device: "cuda:N" where there are GPUs, else None. Work that a process leaves undone when it dies is
    done by the others (run.py).
    """
    if "RANK" in os.environ:
        return work(device_of(int(os.environ.get("LOCAL_RANK", "0"))))
    n = num_workers or max(1, n_gpus())
    if n == 1:
        return work(None)
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_work, args=(work, rank, n)) for rank in range(n)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    statuses = [process.exitcode for process in processes]
    return next((status if status > 0 else 128 - status for status in statuses if status), 0)


def device_of(rank: int) -> str | None:
    """GPU of a process; None where there is none."""
    n = n_gpus()
    return f"cuda:{rank % n}" if n else None


def n_gpus() -> int:
    """Number of GPUs of this machine."""
    import torch  # not at the top: --help need not wait for it

    return torch.cuda.device_count()


def _work(work: Callable[[str | None], int], rank: int, n: int) -> None:
    import torch  # a spawned worker starts with this module

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(n))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // n))
    run_command(lambda: work(device_of(rank)))
