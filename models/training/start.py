"""Where a run begins: fresh, with what was there moved aside, or from a whole checkpoint of its own line."""

import logging
import os
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.training import checkpoints, output_folder
from models.training.checkpoints import Line
from models.training.run_record import last_start
from models.training.train_arguments import TrainArguments, warn_once
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Counted up by Slurm for a job that it starts again, and by torchrun for processes that it does.
RESTART_COUNTS = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")


@dataclass(frozen=True)
class Start:
    """The checkpoint to go on from, None for a fresh start, and the line that the run writes."""

    folder: Path | None
    line: Line


def choose_start(args: TrainArguments, model: str, exchange: Callable[[Any], list]) -> Start:
    """Choose where the run begins, the same on every process; set damaged checkpoints and old runs aside.

    model: name of the weights to begin with. exchange: a value -> those of all processes; every one must call.
    Raises UserError where the checkpoint asked for, or every one that is there, cannot be used.
    """
    new = exchange(uuid.uuid4().hex[:12])[0]
    named = _named_checkpoint(args)
    if named and not exchange(_went_further(args, named))[0]:
        checkpoints.check_resumable(named)
        return _from_named(named, args, new)
    anew = args.overwrite_output_dir and not exchange(_is_continuation(args))[0]
    start = None if anew else _from_newest(args, exchange)
    if start is None:
        _clear(args, model, exchange)
    return start or Start(None, Line(((new, None),)))


def _named_checkpoint(args: TrainArguments) -> Path | None:
    given = args.resume_from_checkpoint
    return Path(given) if given and str(given).lower() not in ("true", "false") else None  # the library's yes or no


def _is_restart() -> bool:
    return any(os.environ.get(name, "0") not in ("", "0") for name in RESTART_COUNTS)


def _is_continuation(args: TrainArguments) -> bool:
    last = last_start(args.output_dir)
    began = bool(last) and last.get("command") == sys.argv and "finished_at" not in last
    asked = str(args.resume_from_checkpoint).lower() == "true"
    if began or asked or _is_restart():
        why = "--resume_from_checkpoint True" if asked else "a job started again" if _is_restart() else "same command"
        warn_once("--overwrite_output_dir True is not followed: this start continues a run (%s)", why)
        return True
    return False


def _went_further(args: TrainArguments, named: Path) -> bool:
    """Whether this is a job started again that had itself gone on from the checkpoint named."""
    line, mark = checkpoints.newest_line(args.output_dir), checkpoints.read_marks(named.parent).get(_step(named))
    return bool(_is_restart() and line and mark and line.holds(mark, _step(named)))


def _from_named(named: Path, args: TrainArguments, new: str) -> Start:
    line = Line.of(checkpoints.read_marks(named.parent)[_step(named)])
    here = named.parent.resolve() == Path(args.output_dir).resolve()
    if here and max(checkpoints.resumable_steps(args.output_dir, line)) == _step(named):
        return Start(named, line)
    return Start(named, line.branch(new, _step(named)))


def _from_newest(args: TrainArguments, exchange: Callable[[Any], list]) -> Start | None:
    marks = checkpoints.read_marks(args.output_dir)
    for step in (step for step, mark in marks.items() if mark is None):
        logger.info("%s is not complete: ignored", checkpoints.folder_of(args.output_dir, step))
    line = checkpoints.newest_line(args.output_dir)
    own = checkpoints.resumable_steps(args.output_dir, line) | {step for step, mark in marks.items() if mark == {}}
    damage = {step: checkpoints.find_damage(checkpoints.folder_of(args.output_dir, step)) for step in own}
    # With --save_on_each_node every node has its own folders, and a kill may have hit them at different steps.
    whole = set.intersection(*exchange({step for step, why in damage.items() if why is None}))
    damage = {step: why for step, why in damage.items() if why}
    if not whole:
        _refuse_damaged(args, damage)
        return None
    step = max(whole)
    _set_damaged_aside(args, {other: why for other, why in damage.items() if other > step}, step)
    exchange(None)
    return Start(checkpoints.folder_of(args.output_dir, step), Line.of(marks[step] or {}))


def _refuse_damaged(args: TrainArguments, damage: dict[int, str]) -> None:
    if damage:
        found = "; ".join(f"checkpoint-{step}: {why}" for step, why in damage.items())
        raise UserError(
            f"{args.output_dir}: no checkpoint there is whole ({found}); bring one back, or start over with "
            "--overwrite_output_dir True, which moves them aside, or in another --output_dir"
        )


def _set_damaged_aside(args: TrainArguments, damage: dict[int, str], step: int) -> None:
    if not damage or not args.should_save:
        return
    folders = [checkpoints.folder_of(args.output_dir, other) for other in damage]
    place = output_folder.set_aside(folders, args.output_dir, "damaged")
    for other, why in damage.items():
        logger.warning(
            "checkpoint-%d is damaged (%s): moved to %s; going on from checkpoint-%d", other, why, place, step
        )


def _clear(args: TrainArguments, model: str, exchange: Callable[[Any], list]) -> None:
    """Move an earlier run aside: all of it under --overwrite_output_dir True, else where there is a model of it."""
    if args.should_save and Path(args.output_dir).is_dir():
        paths = output_folder.find_run(args.output_dir)
        has_weights = any(path.suffix == ".safetensors" for path in paths)
        if paths and (args.overwrite_output_dir or has_weights):
            output_folder.check_not_in_use(paths, model)
            place = output_folder.set_aside(paths, args.output_dir, "old")
            logger.info("a fresh start: moved %s to %s", ", ".join(path.name for path in paths), place)
    exchange(None)


def _step(folder: Path) -> int:
    match = checkpoints.NAME.fullmatch(folder.name)
    return int(match[1]) if match else -1
