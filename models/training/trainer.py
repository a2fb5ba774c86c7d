"""The library's Trainer over streams: data in its own order, exact resume, complete checkpoints, reports."""

import functools
import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerState

from data.loading.bad_samples import TooManyBadSamples, write_report
from data.loading.loader import SampleLoader
from models.load import Checkpoint, load_checkpoint
from models.packed_attention import use_packed_attention
from models.qwen2_vl import StreamingModel
from models.training import checkpoints
from models.training.engine_record import ComputeDtype, engine_record
from models.training.finite import FiniteSteps, all_finite
from models.training.flops import FlopCounter, Flops, count_numbers, peak_flops
from models.training.liger import exchange_all, liger_operations, why_not_liger
from models.training.lora import load_adapters
from models.training.loss_average import weigh_losses
from models.training.optimizer import muon_with_adamw
from models.training.output_folder import set_aside
from models.training.resume_check import check_resume
from models.training.run_log import EpochFraction, StepLog, Usage, jsonable, prepare_reporting
from models.training.run_record import add_start, note_finished
from models.training.source_loss import SourceLoss
from models.training.start import choose_start
from models.training.stopping import Stopping
from models.training.train_arguments import TrainArguments, warn_once
from models.training.vision_cache import SameTower
from utils.errors import UserError
from utils.files import write_whole

logger = logging.getLogger(__name__)

FREEZABLE: dict[str, Callable[[nn.Module], nn.Module]] = {
    "visual": lambda model: model.model.visual,
    "merger": lambda model: model.model.visual.merger,
    "language_model": lambda model: model.model.language_model,
    "lm_head": lambda model: model.lm_head,
}


def freeze_modules(model: nn.Module, names: list[str]) -> None:
    """Stop training the parts named. UserError for a name that is none, or where nothing is left to train."""
    unknown = [name for name in names if name not in FREEZABLE]
    if unknown:
        raise UserError(f"--freeze_modules {' '.join(unknown)}: no such part; choose from {', '.join(FREEZABLE)}")
    for name in names:
        FREEZABLE[name](model).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(f"--freeze_modules {' '.join(names)} freezes every parameter; leave one part out")
    embeddings = model.get_input_embeddings().weight
    if ("lm_head" in names) != ("language_model" in names) and model.lm_head.weight is embeddings:
        warn_once("this checkpoint ties lm_head to the embeddings of language_model: both are frozen")


class CommentaryTrainer(Trainer):
    """Trains a checkpoint, or adapters on it (models/training/lora.py), on the batches of a SampleLoader."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        args: TrainArguments,
        loader: SampleLoader,
        bad_sample_report: Path,
        adapters: nn.Module | None = None,
        record: dict[str, Any] | None = None,
    ):
        self.checkpoint, self.loader, self.bad_sample_report = checkpoint, loader, bad_sample_report
        self.adapters, self.record = adapters, record
        # Ours, not the library's, which would remove the last complete checkpoint before the next one is complete.
        self.n_kept, args.save_total_limit = args.save_total_limit, None
        freeze_modules(checkpoint.model, args.freeze_modules)
        if args.ddp_find_unused_parameters is None:
            # A batch of text alone leaves the tower without gradients.
            trains_tower = any(p.requires_grad for p in checkpoint.model.model.visual.parameters())
            args.ddp_find_unused_parameters = trains_tower
        if loader.packer:
            use_packed_attention(checkpoint.model)
        self.source_loss = SourceLoss(loader.dataset.source_names)
        self.vision_cache = loader.dataset.encoder.vision_cache
        self.step_log = StepLog(Path(args.output_dir) / "train_log.jsonl")
        self.usage = Usage()
        self.stopping = Stopping(args.signal_grace_s, self._exchange)
        # DeepSpeed takes its step before anything can be skipped.
        limit = 1 if args.deepspeed else args.max_skipped_steps
        self.finite = FiniteSteps(limit, loader.take_places, self._sum_over_processes)
        prepare_reporting(args.report_to)
        config = vars(checkpoint.model.config)
        use_cache = {name: value for name, value in config.items() if name == "use_cache"}
        trained = checkpoint.model if adapters is None else adapters
        callbacks = [EpochFraction(self._epoch_of), self.step_log, self.stopping, self.finite]
        super().__init__(trained, args, callbacks=callbacks)
        if self.vision_cache:
            self.add_callback(SameTower(self.vision_cache, checkpoint.model.model.visual))
        # The library writes its choice for training into the config, and so into every checkpoint.
        config.pop("use_cache", None)
        config.update(use_cache)
        self._choose_liger()
        self.compute_dtype = ComputeDtype(checkpoint.model.model.language_model.layers[0].mlp.down_proj)
        self.flops = Flops()  # since the last log
        self._last_logged = (time.monotonic(), dict(loader.totals), loader.wait_s)

    def run(self) -> int:
        """Train to the end from where output_dir stands; save the model and the reports there.

        Returns the exit status: 0, or the one that tells of the signal that ended the run before its end.
        Raises UserError where samples, disk or memory do not allow it.
        """
        start = choose_start(self.args, self.checkpoint.name, self._exchange)
        resume, self.line = start.folder, start.line
        self._write_record(resume)
        self._check_disk()
        try:
            step = self._restore(resume)
            self._check_length(resume, step)
            if step < self.planned_steps:
                with self.stopping.listening():
                    self.train(resume_from_checkpoint=str(resume) if resume else None)
                if self.state.global_step < self.state.max_steps:
                    return self._end_stopped()
                self._check_finite()
                self.save_model()
            else:
                self._take_finished(resume)
            self.loader.bad.check()
        except TooManyBadSamples:
            self._report_bad_samples(stopped=True)
            raise
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"out of memory on {self.args.device}: {str(error).splitlines()[0]} Lower --max_length, "
                "VIDEO_MAX_PIXELS or --per_device_train_batch_size, or set --gradient_checkpointing True"
            ) from error
        except (OSError, RuntimeError, SafetensorError) as error:
            if "No space left" not in str(error):
                raise
            raise UserError(
                f"--output_dir {self.args.output_dir}: the disk is full ({error}); free some space, and the same "
                "command goes on from the last whole checkpoint"
            ) from error
        finally:
            self.loader.close()
        self._report_bad_samples()
        self._summarize(max(step, self.state.global_step))
        return 0

    def _end_stopped(self) -> int:
        folder = checkpoints.folder_of(self.args.output_dir, self.state.global_step)
        kept = f"saved in {folder}" if folder.is_dir() else "not saved: the last update was not finite"
        reason = self.stopping.signal.name if self.stopping.signal else "a callback"
        logger.warning(
            "ended by %s after step %d of %d, %s; the same command goes on",
            reason, self.state.global_step, self.state.max_steps, kept,
        )  # fmt: skip
        self._report_bad_samples()
        return self.stopping.status

    # Length

    @property
    def planned_steps(self) -> int:
        """Optimizer steps of the whole run. With packing and no --max_steps, known from the loader's survey on."""
        if self.args.max_steps > 0:
            return self.args.max_steps
        return math.ceil(self.args.num_train_epochs * self._updates_per_epoch)

    @property
    def _updates_per_epoch(self) -> int:
        return math.ceil(len(self.loader) / self.args.gradient_accumulation_steps)

    def _epoch_of(self, step: int) -> float:
        return self.loader.epochs_drawn if self.loader.packer else step / self._updates_per_epoch

    # Data

    def get_train_dataloader(self) -> SampleLoader:
        """Return the loader as it is: it deals out samples to the processes itself, so accelerate must not."""
        return self.loader

    # Loss

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """Take one update's batches, each told what its samples count for among all ranks' (--loss_average)."""
        batches, n_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        weigh_losses(batches, self.args.loss_average, self._sum_over_processes, self.args.world_size)
        return batches, n_items

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Compute a batch's part of the update's loss; record its files' losses and keep its features."""
        sources = inputs.pop("sources")
        outputs = model(**inputs)
        self.finite.add(outputs.loss)
        self.source_loss.add(sources, inputs["supervised"], outputs.sample_losses)
        if outputs.fresh_features is not None:
            self.vision_cache.store(inputs["parts"], outputs.fresh_features)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    # Optimizer

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """The library's choice, or with --muon_learning_rate Muon beside it."""
        if self.args.muon_learning_rate is None or self.optimizer is not None:
            return super().create_optimizer(*([model] if model is not None else []))
        make, options = self.get_optimizer_cls_and_kwargs(self.args)
        self.optimizer = muon_with_adamw(
            self.model,
            lambda groups: make(groups, **options),
            muon_learning_rate=self.args.muon_learning_rate,
            weight_decay=self.args.weight_decay,
            decayed=self.get_decay_parameter_names(self.model),
        )
        return self.optimizer

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Operations that a batch asks for (flops.py); the library's 6 * tokens * parameters is far off here."""
        lengths = inputs.get("segments") or (inputs["input_ids"] != self.checkpoint.chat.pad).sum(-1).tolist()
        flops = self._flop_counter.count(lengths, sum(inputs["supervised"]), inputs.get("grid_thw"))
        self.flops += flops
        return int(flops.model)

    @functools.cached_property
    def _flop_counter(self) -> FlopCounter:
        return FlopCounter(self.checkpoint.model)

    @functools.cached_property
    def _peak_flops(self) -> float | None:
        return peak_flops(self.args.device, torch.bfloat16 if self.args.bf16 else torch.float32)

    # Logs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add speed and counts of all processes to the library's logs of a step."""
        if "loss" in logs:
            logs.update(self._throughput())
            logs.update(self.source_loss.drain(self._sum_over_processes))
        super().log(logs, start_time)

    def _throughput(self) -> dict[str, float]:
        then, before, waited = self._last_logged
        now, totals, wait_s = time.monotonic(), dict(self.loader.totals), self.loader.wait_s
        self._last_logged = (now, totals, wait_s)
        new = [totals[name] - before[name] for name in ("tokens", "supervised_tokens")]
        flops, self.flops = self.flops, Flops()
        local = [*new, flops.model, flops.hardware, *totals.values(), self.loader.bad.n_bad, wait_s - waited]
        tokens, supervised, model_flops, hardware_flops, *counts, skipped, waiting = self._sum_over_processes(local)
        names = [name if name.endswith("tokens") else f"{name}_seen" for name in totals]
        seconds = max(now - then, 1e-9)
        peak = self._peak_flops and self._peak_flops * seconds * self.args.world_size
        shares = {"mfu": round(model_flops / peak, 4), "hfu": round(hardware_flops / peak, 4)} if peak else {}
        return {
            "tokens_per_second": round(tokens / seconds, 1),
            "supervised_share": round(supervised / max(tokens, 1), 4),
            **shares,
            "memory_gb": round(_memory_bytes(self.args.device) / 1e9, 3),
            **{name: int(count) for name, count in zip(names, counts, strict=True)},
            "skipped_samples": int(skipped),
            **({"skipped_steps": self.finite.n_skipped} if self.finite.n_skipped else {}),
            "data_wait_share": round(waiting / seconds / self.args.world_size, 4),
        }

    def _sum_over_processes(self, values: list[float]) -> list[float]:
        return [sum(column) for column in zip(*self._exchange(values), strict=True)]

    # Checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self._check_finite()
        folder = checkpoints.folder_of(self.args.output_dir, self.state.global_step)
        if self.args.should_save:
            self._clear(folder)
        self.accelerator.wait_for_everyone()
        super()._save_checkpoint(model, trial)
        state = {"loader": self.loader.state_dict(), "usage": self.usage.state_dict()}
        state["skipped_steps"] = self.finite.n_skipped
        path = folder / f"data_state_rank{self.args.process_index}.json"
        path.write_text(json.dumps(state) + "\n", encoding="utf-8")
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            resumable = not self.args.save_only_model
            facts = {"resumable": resumable, "world_size": self.args.world_size}
            checkpoints.mark_complete(folder, self.line, **facts)
            checkpoints.keep_last(self.args.output_dir, self.n_kept, self.line)

    def _check_finite(self) -> None:
        if not all_finite([p for p in self.checkpoint.model.parameters() if p.requires_grad]):
            raise UserError(
                f"step {self.state.global_step}: the weights are not finite any more, so nothing is saved of them; "
                "lower --learning_rate, and give the command again to go on from the last checkpoint"
            )

    def _clear(self, folder: Path) -> None:
        """Make room for a checkpoint: what a kill has cut short is written over, another run's is moved aside."""
        if (folder / checkpoints.COMPLETE).exists():
            place = set_aside([folder], self.args.output_dir, "old")
            logger.warning("%s is of another run: moved to %s", folder, place)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            self.checkpoint.save_companions(output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Load a checkpoint's weights.

        The library writes Qwen2-VL's weights under their published names, does not find those names when a
        run is resumed, and only warns of it (transformers 5.23): the run would go on from the weights it once
        began with.
        """
        if self.adapters is not None and not self.is_fsdp_enabled:
            load_adapters(self.adapters, resume_from_checkpoint)
            return
        if self.is_fsdp_enabled or not isinstance(self.model, StreamingModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        saved = load_checkpoint(resume_from_checkpoint, device="cpu", dtype=self.model.dtype)
        self.model.load_state_dict(saved.model.state_dict())

    def _take_finished(self, folder: Path) -> None:
        """Make a checkpoint at the last step the result; no engine is started for it."""
        logger.info("already trained: %s has step %d", folder, self.planned_steps)
        if self.args.should_save:
            checkpoints.copy_model(folder, Path(self.args.output_dir))
        self.accelerator.wait_for_everyone()

    def _exchange(self, value: Any) -> list[Any]:
        """Every process's value, in order of ranks."""
        if self.args.world_size == 1:
            return [value]
        found: list[Any] = [None] * self.args.world_size
        dist.all_gather_object(found, value)
        return found

    def _write_record(self, resume: Path | None) -> None:
        if self.record is None or not self.is_world_process_zero():
            return
        if resume:
            check_resume(resume, self.record, self.args)
        add_start(self.args.output_dir, self.record)

    def _restore(self, folder: Path | None) -> int:
        """Restore the loader and all counts from the checkpoint; return its step, 0 for a fresh start."""
        step = 0
        if folder is None:
            self.loader.survey(self._sum_over_processes)
            logger.info("starting in %s: %d steps", self.args.output_dir, self.planned_steps)
        else:
            step = TrainerState.load_from_json(str(folder / "trainer_state.json")).global_step
            own = folder / f"data_state_rank{self.args.process_index}.json"
            state = json.loads((own if own.exists() else folder / "data_state_rank0.json").read_text("utf-8"))
            self.loader.load_state_dict(state["loader"], updates=step)
            self.loader.survey(self._sum_over_processes)
            self.usage.load_state_dict(state["usage"])
            self.finite.n_skipped = state.get("skipped_steps", 0)
            self._last_logged = (time.monotonic(), dict(self.loader.totals), self.loader.wait_s)
            logger.info("going on from %s: step %d of %d", folder, step, self.planned_steps)
        if self.is_world_process_zero():
            self.step_log.rewind(step)
        return step

    def _check_length(self, folder: Path | None, step: int) -> None:
        if step > self.planned_steps:
            raise UserError(
                f"the run has {self.planned_steps} steps (--max_steps, --num_train_epochs), and {folder} stands at "
                f"step {step}: its model would be another run's result. Give at least {step} steps, or another "
                "--output_dir with --resume_from_checkpoint and an earlier checkpoint"
            )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the optimizer's state; its rates, decay and schedule are this start's (the library keeps the old)."""
        scheduler, groups = self.lr_scheduler, self.optimizer.param_groups if self.optimizer else []
        asked = [{name: value for name, value in group.items() if name != "params"} for group in groups]
        rates = list(getattr(scheduler, "base_lrs", []))
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or self.is_deepspeed_enabled or not isinstance(scheduler, LambdaLR):
            return
        scheduler.base_lrs = rates
        for group, options in zip(self.optimizer.param_groups, asked, strict=True):
            group.update(options)
        for group, rate, share in zip(self.optimizer.param_groups, rates, scheduler.lr_lambdas, strict=True):
            group["lr"] = rate * share(scheduler.last_epoch)
        scheduler._last_lr = [group["lr"] for group in self.optimizer.param_groups]  # what the log shows

    def _choose_liger(self) -> None:
        if not self.args.liger_wanted:
            return
        reason = why_not_liger(self.args.device)
        if reason:
            warn_once("--use_liger_kernel True: %s; the same computation runs without it", reason)
            return
        exchange_all(self.checkpoint.model, liger_operations())
        self.checkpoint.model.use_liger = True

    def _check_disk(self) -> None:
        """Raise UserError unless one checkpoint fits on the disk: weights, and two moments for each trained one."""
        parameters = list(self.checkpoint.model.parameters())
        trained = [p for p in parameters if p.requires_grad]
        weights = sum(count_numbers(p) * p.itemsize for p in (parameters if self.adapters is None else trained))
        moments = 8 * sum(map(count_numbers, trained))
        needed = weights + (0 if self.args.save_only_model else moments)
        free = shutil.disk_usage(self.args.output_dir).free if self.args.should_save else needed
        if free < needed:
            raise UserError(
                f"--output_dir {self.args.output_dir}: {free / 1e6:.0f} MB free, and one checkpoint takes "
                f"{needed / 1e6:.0f} MB; free some space, or give a folder on another disk"
            )

    # Reports

    def _report_bad_samples(self, stopped: bool = False) -> None:
        """Write bad_samples.json over all processes; one that stops the run can only write its own part."""
        logs, path = [self.loader.bad], self.bad_sample_report
        if self.args.world_size > 1 and not stopped:
            logs = [None] * self.args.world_size
            dist.all_gather_object(logs, self.loader.bad)
        elif self.args.world_size > 1:
            path = path.with_name(f"{path.stem}_rank{self.args.process_index}{path.suffix}")
        if self.is_world_process_zero() or stopped:
            write_report(path, logs, stopped)

    def _summarize(self, step: int) -> None:
        """Write train_summary.json: steps, seconds, CPU-seconds of all processes and workers, what was seen and ran."""
        usage = self.usage.state_dict()
        cpu_s = self._sum_over_processes([usage["cpu_seconds"]])[0]
        totals = self._sum_over_processes(list(self.loader.totals.values()))
        if not self.is_world_process_zero():
            return
        losses = [entry["loss"] for entry in self.state.log_history if "loss" in entry]
        summary = {
            "steps": step,
            "wall_seconds": round(usage["wall_seconds"], 1),
            "cpu_seconds": round(cpu_s, 1),
            "processes": self.args.world_size,
            "parameters": sum(map(count_numbers, self.checkpoint.model.parameters())),
            "trained_parameters": sum(count_numbers(p) for p in self.checkpoint.model.parameters() if p.requires_grad),
            "last_loss": jsonable(losses[-1]) if losses else None,
            "skipped_steps": self.finite.n_skipped,
            "ran": self._what_ran(),
            **{name: int(total) for name, total in zip(self.loader.totals, totals, strict=True)},
        }
        write_whole(Path(self.args.output_dir) / "train_summary.json", json.dumps(summary, indent=1) + "\n")
        if self.record is not None:
            note_finished(self.args.output_dir, step)

    def _what_ran(self) -> dict[str, Any] | None:
        """None where nothing was left to train."""
        if self.optimizer is None:
            return None
        model = self.checkpoint.model
        return {
            **engine_record(self.model_wrapped, self.optimizer),
            "computed_in": self.compute_dtype.name,
            "attention": model.model.language_model.config._attn_implementation,
            "liger": model.use_liger,
        }


def _memory_bytes(device: torch.device) -> int:
    """Peak memory of this process: on its GPU, or of the host."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return psutil.Process().memory_info().rss
