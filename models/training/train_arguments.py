"""Flags of train.py about the run itself: the library's, those it dropped, and ours."""

import importlib.util
import logging
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.utils import is_torch_tf32_available

from models.training.loss_average import LossAverage
from utils.arguments import helped
from utils.errors import UserError

logger = logging.getLogger(__name__)

# Flags of the library that this trainer does not act on, with the only value it takes.
NOT_OFFERED = {
    "eval_strategy": "no",
    "do_eval": False,
    "do_predict": False,
    "load_best_model_at_end": False,
    "label_smoothing_factor": 0.0,
    "auto_find_batch_size": False,
    "dataloader_drop_last": False,
    "push_to_hub": False,
    "enable_jit_checkpoint": False,
    "train_sampling_strategy": "random",
}
WHY_NOT = {
    "enable_jit_checkpoint": "it saves in mid-update; without it a signal saves at the end of the step",
    "train_sampling_strategy": "the order is the data loader's own, so that a run resumes exactly",
}
TRACKERS = ("tensorboard", "wandb")


def warn_once(message: str, *values: object) -> None:
    """Warn in the first process of a run only; the others would say the same."""
    if os.environ.get("RANK", "0") == "0":
        logger.warning(message, *values)


def why_no_deepspeed_build() -> str | None:
    """Why DeepSpeed's extension cannot be built here; None where it can be, or on a GPU, which needs none.

    torch hands its folder to the linker unquoted (torch/utils/cpp_extension.py, torch 2.15).
    """
    folder = Path(torch.__file__).parent
    if torch.cuda.is_available() or " " not in str(folder):
        return None
    return f"the path of the Python environment has a space, {folder}, where torch cannot link what it builds"


def join_processes(args: "TrainArguments") -> None:
    """Let DeepSpeed know its processes before weights are loaded, which ZeRO-3 splits as they are read.

    The library does so on a GPU only.
    """
    if args.zero_stage == 3 and args.device.type == "cpu":
        import deepspeed

        deepspeed.init_distributed(dist_backend="gloo")


@dataclass
class TrainArguments(TrainingArguments):
    """The library's TrainingArguments; with what the published commands use and current versions dropped."""

    overwrite_output_dir: bool = helped(
        False, "True: move the run there aside and start over, unless this start continues it; False: go on from it"
    )
    allow_changes: list[str] = field(
        default_factory=list,
        metadata={"help": "flags that may have another value than the run had that this start goes on from"},
    )
    warmup_ratio: float = helped(0.0, "share of the steps over which the learning rate rises from 0")
    freeze_modules: list[str] = field(
        default_factory=list,
        metadata={"help": "parts that are not trained: visual (tower and merger), merger, language_model, lm_head"},
    )
    muon_learning_rate: float | None = helped(
        None, "Muon with this rate (say 0.02) for the blocks' matrices, --optim for the rest"
    )
    loss_average: LossAverage = helped(
        "sample", "mean over each sample's supervised tokens, then samples; or over an update's tokens (token)"
    )
    use_liger_kernel: bool = helped(
        False, "Liger's operations on a GPU; elsewhere the same computation without them, with a warning"
    )
    signal_grace_s: float = helped(
        30.0, "SIGTERM, SIGUSR1 and SIGINT save at the end of the step, if it ends within so many seconds"
    )
    max_skipped_steps: int = helped(5, "updates in a row without finite loss and gradients that end the run")
    report_to: list[str] = field(
        default_factory=lambda: ["none"], metadata={"help": "where the log goes too: tensorboard, wandb, both, none"}
    )
    do_train: bool = helped(True, "accepted for the published commands; training is all")
    # The library's default hides losses that are not numbers behind the average of earlier ones.
    logging_nan_inf_filter: bool = helped(False, "leave infinite losses out of the logs")
    # utils/arguments.py has --debug for every command.
    debug: str | list = field(default="", init=False)
    liger_wanted: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if str(self.fsdp).lower() in ("true", "false"):  # the library takes the flag alone or the value, not the words
            self.fsdp = True if str(self.fsdp).lower() == "true" else None
        self._check_flags()
        if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
            self.use_cpu = True  # otherwise the library refuses --bf16 here
        self._fall_back_from_tf32()
        # The library would rebind the classes of the whole process; the model takes Liger's operation itself.
        self.liger_wanted, self.use_liger_kernel = self.use_liger_kernel, False
        # The loader stands at the right sample by itself (data/loading/loader.py).
        self.ignore_data_skip = True
        if hasattr(self, "activation_checkpointing") and self.activation_checkpointing is None:
            self.activation_checkpointing = self.gradient_checkpointing  # the newer name, which does not warn
        try:
            super().__post_init__()
        except (ValueError, ImportError) as error:
            raise UserError(f"the arguments cannot be used: {error}") from error
        self._use_one_gpu_a_process()
        self._check_node_folders()

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of warm-up: --warmup_steps where it is given, else the share --warmup_ratio."""
        if self.warmup_steps or not self.warmup_ratio:
            return super().get_warmup_steps(num_training_steps)
        return math.ceil(num_training_steps * self.warmup_ratio)

    @property
    def holds_weights_in_parts(self) -> bool:
        """Whether each process has a part of the weights only."""
        return bool(self.fsdp) or self.zero_stage == 3

    def _check_flags(self) -> None:
        for name, only in NOT_OFFERED.items():
            value = getattr(self, name, only)
            if getattr(value, "value", value) != only:
                raise UserError(
                    f"--{name} {value}: only {only} is offered; "
                    + WHY_NOT.get(name, "the commands in evaluation/ score checkpoints")
                )
        if not self.do_train:
            raise UserError("--do_train False leaves nothing to do; the commands in evaluation/ score checkpoints")
        asked = [self.report_to] if isinstance(self.report_to, str) else self.report_to or []
        unknown = set(asked) - {*TRACKERS, "none", "all"}
        if unknown:
            raise UserError(f"--report_to {' '.join(sorted(unknown))}: give none, all, or of {', '.join(TRACKERS)}")
        if self.fp16 and (self.use_cpu or not torch.cuda.is_available()):
            raise UserError("--fp16 True has no effect on a CPU; leave it out, or give --bf16 True")
        if self.signal_grace_s <= 0 or self.max_skipped_steps < 1:
            raise UserError(
                f"--signal_grace_s {self.signal_grace_s}, --max_skipped_steps {self.max_skipped_steps}: above 0, and "
                "at least 1"
            )
        if not 0 <= self.warmup_ratio <= 1:
            raise UserError(f"--warmup_ratio {self.warmup_ratio}: a share of all steps, so between 0 and 1")
        for engine in ("deepspeed", "fsdp"):
            if self.muon_learning_rate is not None and getattr(self, engine):
                raise UserError(
                    f"--muon_learning_rate does not work with --{engine}, which splits the matrices that Muon needs "
                    "whole; leave one of them out"
                )
        if self.deepspeed and self.fsdp:
            raise UserError("--deepspeed and --fsdp both split the model over the processes; leave one of them out")
        self._check_deepspeed()
        self._check_fsdp()

    def _check_fsdp(self) -> None:
        if not self.fsdp:
            return
        if not self.fsdp_config:
            raise UserError(
                "--fsdp needs --fsdp_config scripts/fsdp2.json: without one the library gathers all layers at once"
            )
        if not str(self.fsdp_config).startswith("{") and not Path(str(self.fsdp_config)).is_file():
            raise UserError(f"--fsdp_config {self.fsdp_config}: no such file; scripts/fsdp2.json is the usual one")
        self._check_launched("fsdp")
        self._check_fsdp_device()

    def _check_fsdp_device(self) -> None:
        # accelerate's table of devices (accelerate 1.15, state.py) makes DDP of it elsewhere and says nothing.
        if self.use_cpu or not torch.cuda.is_available():
            raise UserError(
                "--fsdp needs GPUs: here the library would train with DDP in its place, each process holding the whole "
                "model; leave the flag out, or give --deepspeed scripts/deepspeed_zero3.json, which splits the weights "
                "on CPUs too"
            )

    def _check_launched(self, engine: str) -> None:
        if "LOCAL_RANK" not in os.environ:
            raise UserError(
                f"--{engine} needs one process per GPU: start with torchrun --standalone --nproc_per_node=N "
                "train.py ... instead of python train.py ..., or leave the flag out"
            )

    def _check_node_folders(self) -> None:
        several = os.environ.get("WORLD_SIZE", "1") != os.environ.get("LOCAL_WORLD_SIZE", "1")
        if several and self.save_on_each_node and (self.fsdp or self.zero_stage == 3):
            raise UserError(
                f"--save_on_each_node True does not work with {'--fsdp' if self.fsdp else 'ZeRO-3'} on several nodes: "
                "weights are gathered on the first one alone. Put --output_dir on a file system that all nodes share, "
                "and give --save_on_each_node False"
            )

    @property
    def zero_stage(self) -> int:
        """DeepSpeed's stage; 0 without DeepSpeed."""
        config = getattr(self, "hf_deepspeed_config", None)
        return config.config.get("zero_optimization", {}).get("stage", 0) if config else 0

    def _check_deepspeed(self) -> None:
        if not self.deepspeed:
            return
        config = str(self.deepspeed)
        if not config.startswith("{") and not Path(config).is_file():
            raise UserError(f"--deepspeed {config}: no such file; scripts/deepspeed_zero2.json is the usual one")
        if importlib.util.find_spec("deepspeed") is None:
            raise UserError("--deepspeed: the package is not installed; pip install deepspeed, or leave the flag out")
        self._check_launched("deepspeed")
        reason = why_no_deepspeed_build()
        if reason:
            raise UserError(
                f"--deepspeed {config}: on a CPU it builds an extension, and {reason}. Set up again under a path "
                "without one (move the repository, remove .venv, bash scripts/setup.sh), or leave the flag out; DDP "
                "needs none"
            )

    def _fall_back_from_tf32(self) -> None:
        if self.tf32 and (self.use_cpu or not is_torch_tf32_available()):
            warn_once("--tf32 True: needs an NVIDIA GPU of the Ampere generation or newer; running without it")
            self.tf32 = None

    def _use_one_gpu_a_process(self) -> None:
        if self.n_gpu > 1:
            # Positions are [3, B, T]: DataParallel would split them along the wrong axis.
            warn_once(
                "%d GPUs, and this process uses the first; torchrun --standalone --nproc_per_node=%d train.py "
                "... uses all",
                self.n_gpu,
                self.n_gpu,
            )
            self._n_gpu = 1
