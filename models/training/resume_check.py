"""What a resume would change: this start against the record of the run that it goes on from."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.training.run_record import last_start
from models.training.train_arguments import TrainArguments
from utils.errors import UserError

logger = logging.getLogger(__name__)

# The state that a checkpoint holds belongs to these: another value cannot take it over.
FIXED = {
    "lora": ("lora_rank", "lora_alpha", "lora_targets", "lora_bits"),
    "training": ("freeze_modules", "optim", "muon_learning_rate"),
}
CHANGEABLE = {
    "model": ("position_mode",),
    "data": ("max_length", "with_context", "frame_times", "blind"),
    "lora": ("lora_dropout",),
    "training": (
        "learning_rate", "weight_decay", "lr_scheduler_type", "warmup_ratio", "warmup_steps", "adam_beta1",
        "adam_beta2", "adam_epsilon", "max_grad_norm", "loss_average", "bf16", "fp16",
    ),
}  # fmt: skip
DATA = "annotation_paths"
ALLOWED = [DATA, *(name for names in CHANGEABLE.values() for name in names)]


def check_resume(folder: Path, start: dict[str, Any], args: TrainArguments) -> None:
    """Compare a start with the record beside the checkpoint that it goes on from.

    Raises UserError for what would be computed otherwise, unless --allow_changes names it; that, and a run made
    longer, is said in a line.
    """
    unknown = sorted(set(args.allow_changes) - set(ALLOWED))
    if unknown:
        raise UserError(f"--allow_changes {' '.join(unknown)}: no such choice; choose from {', '.join(ALLOWED)}")
    before = last_start(folder.parent)
    if not before:
        logger.warning("%s has no run.json: what this start changes is not known", folder.parent)
        return
    now = json.loads(json.dumps(start, default=str))
    _check_weights(before, now, folder)
    for name, old, new in _changes(FIXED, before, now):
        raise UserError(
            f"--{name} {_shown(new)}: {folder} was trained with {_shown(old)}, and its state fits nothing else; give "
            "that again, or another --output_dir for a run of its own"
        )
    changes = _changes(CHANGEABLE, before, now) + _data_changes(before, now)
    refused = [change for change in changes if change[0] not in args.allow_changes]
    if refused:
        raise UserError(_message(folder, refused))
    for name, old, new in changes:
        logger.warning("--allow_changes %s: %s from here on, %s until now", name, _shown(new), _shown(old))
    for name, old, new in _changes({"training": ("max_steps", "num_train_epochs")}, before, now):
        logger.warning("--%s %s, until now %s: the learning rate follows the new length from here on", name, new, old)


def _check_weights(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    old, new = before["model"], now["model"]
    same = old["weights"] == new["weights"] if old["weights"] and new["weights"] else old["name"] == new["name"]
    if not same:
        raise UserError(
            f"--pretrained_model_name_or_path {new['name']}: {folder} was trained from other weight files "
            f"({old['name']}), with another vision tower or text model; give these again, or another --output_dir for "
            "a run of its own"
        )


def _changes(
    names: dict[str, Sequence[str]], before: dict[str, Any], now: dict[str, Any]
) -> list[tuple[str, Any, Any]]:
    """(flag, value until now, value asked for) of each that differs and that both know."""
    old, new = before["arguments"], now["arguments"]
    return [
        (name, old[group][name], new[group][name])
        for group, flags in names.items()
        for name in flags
        if name in old.get(group, {}) and name in new[group] and old[group][name] != new[group][name]
    ]


def _data_changes(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    same = [file["fingerprint"] for file in before["data"]] == [file["fingerprint"] for file in now["data"]]
    paths = [" ".join(file["path"] for file in start["data"]) for start in (before, now)]
    return [] if same else [(DATA, paths[0], paths[1] if paths[0] != paths[1] else f"{paths[1]} with other content")]


def _message(folder: Path, changes: list[tuple[str, Any, Any]]) -> str:
    said = "; ".join(f"--{name} {_shown(new)} (until now {_shown(old)})" for name, old, new in changes)
    names = " ".join(name for name, _, _ in changes)
    return (
        f"this start would change what {folder} was trained with: {said}. Give the old values again, --allow_changes "
        f"{names} to go on with the new ones, or another --output_dir for a run of its own"
    )


def _shown(value: Any) -> str:
    return "(none)" if value in (None, "", []) else str(value)
