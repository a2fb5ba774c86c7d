"""Train a Qwen2-VL checkpoint to comment on videos while they play.

Pre-training and SFT differ in their data and learning rate only:

    # 8 GPUs of 80 GB, Qwen2-VL-7B; scripts/pt_local.sh and scripts/sft_local.sh write the flags out
    torchrun --standalone --nproc_per_node=8 train.py --deepspeed ./scripts/deepspeed_zero2.json ...

    # one process, on a CPU or a GPU
    python train.py --pretrained_model_name_or_path FOLDER --annotation_paths FILE.jsonl --output_dir checkpoints/mine

Hardware and time: the nano model (1.2 M parameters) takes minutes on 2 CPU cores, as scripts/quickstart.sh
shows; the 7B model takes 8 GPUs and days. Result: a checkpoint in --output_dir that plain transformers loads,
and beside it train_log.jsonl, train_summary.json and bad_samples.json. A run that was cut short goes on from
its last whole checkpoint when its command is given again; --overwrite_output_dir True moves what another command left
there aside.
"""

import atexit
import contextlib
import functools
import logging
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from data.loading.collate import collate, pack
from data.loading.dataset import AnnotationDataset, DataArguments, SampleEncoder
from data.loading.loader import LoaderOptions, SampleLoader
from data.loading.mixing import make_order
from data.samples.annotations import AnnotationError
from data.video.decode_cache import DecodeCache
from models.load import Checkpoint, ModelArguments, load_checkpoint, preferred_attention
from models.training.held_out import HeldOut, HeldOutArguments
from models.training.lora import LoraArguments, add_adapters, check_together, quantization
from models.training.output_folder import claim
from models.training.run_record import describe_start
from models.training.train_arguments import TrainArguments, join_processes, warn_once
from models.training.trainer import CommentaryTrainer
from models.training.vision_cache import open_vision_cache
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command

logger = logging.getLogger("train")

QUERIES_LOOKED_AT = 100  # of each annotation file


def start_logging() -> None:
    """Show our own messages; those of processes other than the first only from warnings on."""
    logging.basicConfig(format="%(message)s")
    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    for package in ("train", "data", "models", "utils"):
        logging.getLogger(package).setLevel(level)


def load_model(model_args: ModelArguments, lora_args: LoraArguments, args: TrainArguments) -> Checkpoint:
    """Load the weights to train: in float32, under --bf16 True computed with in bfloat16.

    DeepSpeed keeps float32 copies of bfloat16 weights itself; weights that only carry adapters need none.
    """
    join_processes(args)
    computed_in = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
    return load_checkpoint(
        model_args.pretrained_model_name_or_path,
        device=args.device,
        dtype="bfloat16" if args.bf16 and (args.deepspeed or lora_args.lora_rank) else "float32",
        attn_implementation=model_args.attn_implementation or preferred_attention(args.device, computed_in),
        position_mode=model_args.position_mode,
        quantization=quantization(lora_args),
    )


def make_dataset(checkpoint: Checkpoint, data_args: DataArguments, args: TrainArguments) -> AnnotationDataset:
    """Open the annotation files, to be encoded the way the checkpoint reads videos."""
    vision_cache = None
    if data_args.vision_cache:
        options = {"blind": data_args.blind, "max_gb": data_args.vision_cache_gb}
        vision_cache = open_vision_cache(data_args.vision_cache, checkpoint, args, **options)
    encoder = SampleEncoder(
        checkpoint.chat,
        checkpoint.limits,
        checkpoint.position_mode,
        with_context=data_args.with_context,
        frame_times=data_args.frame_times,
        max_length=data_args.max_length,
        decode_cache=DecodeCache(data_args.decode_cache) if data_args.decode_cache else None,
        blind=data_args.blind,
        vision_cache=vision_cache,
        family=checkpoint.family,
    )
    return AnnotationDataset(data_args.annotation_paths, encoder, data_args.media_root)


def warn_of_empty_queries(dataset: AnnotationDataset) -> None:
    """Warn of streaming files without queries: trained on these alone, a model learns to speak unasked."""
    for file in dataset.files:
        queries = []
        for i in range(min(len(file), QUERIES_LOOKED_AT)):
            with contextlib.suppress(AnnotationError):  # counted when its turn comes in training
                queries += [file[i].query.text] if file[i].is_stream else []
        if queries and not any(queries):
            warn_once(
                "%s: the first %d streams have an empty query; --with_context True would give them title and "
                "earlier speech",
                file.path,
                len(queries),
            )


def make_loader(
    dataset: AnnotationDataset, data_args: DataArguments, args: TrainArguments, pad_id: int
) -> SampleLoader:
    """Deal the samples out to this process, in an order that depends on --data_seed (or --seed) alone."""
    seed = args.seed if args.data_seed is None else args.data_seed
    sizes, weights = [len(file) for file in dataset.files], data_args.annotation_weights
    packed, n_updates = data_args.max_tokens_per_batch, args.max_steps if args.max_steps > 0 else None
    if packed is not None and packed < data_args.max_length:
        raise UserError(
            f"--max_tokens_per_batch {packed} is less than --max_length {data_args.max_length}: a sample may be longer "
            "than a row; raise the one or lower the other"
        )
    if data_args.prefetch_mb < 1:
        raise UserError(f"--prefetch_mb {data_args.prefetch_mb}: must be at least 1; the default is 4096")
    return SampleLoader(
        dataset,
        make_order(sizes, weights, seed, args.process_index, args.world_size),
        pack if packed else functools.partial(collate, pad_id=pad_id),
        LoaderOptions(
            batch_size=args.per_device_train_batch_size,
            max_tokens=packed,
            accumulation=args.gradient_accumulation_steps,
            batches_per_epoch=n_updates * args.gradient_accumulation_steps if packed and n_updates else None,
            max_bad_samples=data_args.max_bad_samples,
            num_workers=args.dataloader_num_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            start_method=getattr(args, "dataloader_multiprocessing_context", None),
            prefetch_bytes=data_args.prefetch_mb * 10**6,
        ),
    )


def build_trainer(*more_types: type, description: str) -> tuple:
    """Wire arguments, model, data and trainer together: the trainer, and the arguments of `more_types`."""
    start_logging()
    model_args, data_args, lora_args, args, held_out, *more = parse_arguments(
        ModelArguments,
        DataArguments,
        LoraArguments,
        TrainArguments,
        HeldOutArguments,
        *more_types,
        description=description,
    )
    check_together(lora_args, args)
    if args.should_save:
        claim(args.output_dir, model_args.pretrained_model_name_or_path)
    checkpoint = load_model(model_args, lora_args, args)
    adapters = add_adapters(checkpoint.model, lora_args, args) if lora_args.lora_rank else None
    dataset = make_dataset(checkpoint, data_args, args)
    if not data_args.with_context:
        warn_of_empty_queries(dataset)
    loader = make_loader(dataset, data_args, args, checkpoint.chat.pad)
    report = Path(data_args.bad_sample_report or Path(args.output_dir) / "bad_samples.json")
    groups = {"model": model_args, "data": data_args, "lora": lora_args, "training": args, "held_out": held_out}
    arguments = {name: _plain(group) for name, group in groups.items()}
    record = describe_start(arguments, data_args.annotation_paths, checkpoint.name, args.world_size)
    trainer = CommentaryTrainer(checkpoint, args, loader, report, adapters, record)
    if held_out.held_out_annotations:
        if args.holds_weights_in_parts:
            raise UserError(
                "--held_out_annotations: with ZeRO-3 or FSDP no process holds the whole model; leave the flag out and "
                "score checkpoints with the commands in evaluation/"
            )
        trainer.add_callback(
            HeldOut(checkpoint, held_out, args.output_dir, trainer.callback_handler, data_args.media_root)
        )
    return trainer, *more


def _plain(arguments: Any) -> dict[str, Any]:
    return arguments.to_sanitized_dict() if isinstance(arguments, TrainArguments) else asdict(arguments)


def main() -> int:
    """Run the command; its exit status."""
    (trainer,) = build_trainer(description=__doc__.splitlines()[0])
    return trainer.run()


def run_process() -> int:
    """One process of a run: train, then leave the others."""
    status = main()
    if dist.is_initialized():
        # Native threads of a process group may abort the interpreter's end, and with it a run that is done and saved:
        # what is registered for the end runs now, and the process leaves without one.
        dist.destroy_process_group()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


if __name__ == "__main__":
    run_command(run_process)
