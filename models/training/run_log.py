"""Log of a training run: a line per logged step, and the time it took."""

import importlib.util
import json
import logging
import math
import netrc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import urlopen

import psutil
from transformers import TrainerCallback

from utils.errors import UserError
from utils.files import write_whole

logger = logging.getLogger(__name__)

WANDB_SERVER = "https://api.wandb.ai"
SERVER_WAIT_S = 5.0


class EpochFraction(TrainerCallback):
    """Keeps `epoch` right after a resume in mid-epoch, where the library counts from the epoch's start.

    epoch_of: optimizer steps done -> epochs.
    """

    def __init__(self, epoch_of: Callable[[int], float]) -> None:
        self.epoch_of = epoch_of

    def on_step_end(self, args, state, control, **kwargs) -> None:
        state.epoch = self.epoch_of(state.global_step)


class StepLog(TrainerCallback):
    """Writes what is logged as JSON lines, flushed as it comes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if state.is_world_process_zero and logs:
            line = {"step": state.global_step, **{name: jsonable(value) for name, value in logs.items()}}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def rewind(self, step: int) -> None:
        """Drop the lines after `step`: a resumed run writes them again. 0 drops the file."""
        if not self.path.exists():
            return
        kept = [line for line in self.path.read_text("utf-8").splitlines() if _step_of(line) <= step]
        write_whole(self.path, "".join(f"{line}\n" for line in kept if step))


class Usage:
    """Wall and CPU seconds of this process, its start-up and its workers, and of the runs it continues."""

    def __init__(self) -> None:
        self.before = {"wall_seconds": 0.0, "cpu_seconds": 0.0}

    def state_dict(self) -> dict[str, float]:
        """Seconds until now."""
        wall_s = time.time() - psutil.Process().create_time()
        return {
            "wall_seconds": self.before["wall_seconds"] + wall_s,
            "cpu_seconds": self.before["cpu_seconds"] + _cpu_seconds(),
        }

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Count on from a checkpoint's seconds."""
        self.before = dict(state)


def _cpu_seconds() -> float:
    """CPU time of this process, of children that ended and of those that still run."""
    times = os.times()
    seconds = times.user + times.system + times.children_user + times.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            cpu = child.cpu_times()
            seconds += cpu.user + cpu.system
        except psutil.Error:
            continue  # ended since it was listed
    return seconds


def prepare_reporting(targets: list[str]) -> None:
    """Make --report_to work as it is given: check its packages, and take wandb offline where it has no
    account.

    Raises UserError for a package that is not installed. Sets WANDB_MODE=offline in this process's
    environment if no mode is given and there is no API key, or no answer from the server: wandb would otherwise ask
    for a login, or end the run.
    """
    for target in targets:
        if target in ("wandb", "tensorboard") and importlib.util.find_spec(target) is None:
            raise UserError(f"--report_to {target}: not installed here; pip install {target}, or give --report_to none")
    if "wandb" not in targets or os.environ.get("WANDB_MODE"):
        return
    reason = None if _wandb_has_key() else "no API key here"
    if reason is None and os.environ.get("RANK", "0") == "0":
        reason = _why_no_wandb_server()
    if reason:
        os.environ["WANDB_MODE"] = "offline"
        if os.environ.get("RANK", "0") == "0":
            logger.warning(
                "--report_to wandb: %s, so the run is kept offline in %s (wandb login or "
                "WANDB_API_KEY sends it at once, wandb sync later)",
                reason,
                Path(os.environ.get("WANDB_DIR", ".")) / "wandb",
            )


def _why_no_wandb_server() -> str | None:
    """Why wandb's server does not answer, asked once for seconds: wandb itself would ask for minutes."""
    server = os.environ.get("WANDB_BASE_URL", WANDB_SERVER)
    try:
        urlopen(server, timeout=SERVER_WAIT_S).close()
    except HTTPError:
        return None  # an answer
    except (OSError, ValueError) as error:
        return f"no answer from {server} ({error})"
    return None


def _wandb_has_key() -> bool:
    """True where wandb finds a login without asking: in the environment or in its netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", WANDB_SERVER)).netloc
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return math.inf  # a line cut short by a kill


def jsonable(value: Any) -> Any:
    """Give numbers that JSON has no notation for as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
