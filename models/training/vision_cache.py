"""The vision cache of a training run: opened for a frozen tower only, and checked against the tower that is trained."""

import hashlib
import os

import torch
from torch import nn
from transformers import TrainerCallback

from data.samples.vision_cache import VisionCache
from models.load import Checkpoint
from models.training.train_arguments import TrainArguments
from utils.errors import UserError


def tower_fingerprint(tower: nn.Module) -> str:
    """Digest of the weights of tower and merger: names, dtypes, shapes and every byte."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tower.state_dict().items()):
        if not tensor.numel():
            raise UserError(
                f"--vision_cache: this process holds nothing of {name}; the weights are split over the processes "
                "(ZeRO-3), so they cannot be told from others. Use ZeRO-2, or leave the cache out"
            )
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def open_vision_cache(
    folder: str | os.PathLike, checkpoint: Checkpoint, args: TrainArguments, *, blind: bool, max_gb: float | None
) -> VisionCache:
    """Open the cache for this run's tower. Raises UserError where its features will not stay the same."""
    if "visual" not in args.freeze_modules:
        raise UserError(
            "--vision_cache keeps features of a tower and merger that do not change, and this run trains them; give "
            "--freeze_modules visual, or --decode_cache in place of it"
        )
    if getattr(args, "fsdp", None):
        raise UserError("--vision_cache does not work with --fsdp, which splits the tower; leave one of them out")
    if blind:
        raise UserError("--vision_cache with --blind True would keep features of noise; leave one of them out")
    if max_gb is not None and max_gb <= 0:
        raise UserError(f"--vision_cache_gb {max_gb:g}: must be above 0; leave --vision_cache out to keep nothing")
    tower = checkpoint.model.model.visual
    # Under autocast the merger's last product comes out in the lower precision.
    dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else next(tower.parameters()).dtype
    cache = VisionCache(
        folder,
        tower=tower_fingerprint(tower),
        dtype=dtype,
        hidden=checkpoint.model.config.get_text_config().hidden_size,
        max_gb=max_gb,
        world=args.world_size,
    )
    cache.log_disk_use()
    return cache


class SameTower(TrainerCallback):
    """Stops a run that was resumed with another tower than the one whose features are kept."""

    def __init__(self, cache: VisionCache, tower: nn.Module) -> None:
        self.cache, self.tower = cache, tower

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if state.global_step and tower_fingerprint(self.tower) != self.cache.tower:
            raise UserError(
                "--vision_cache: the checkpoint that this run goes on from has another vision tower than "
                "--pretrained_model_name_or_path; give the model that the run began with, or leave the cache out"
            )
