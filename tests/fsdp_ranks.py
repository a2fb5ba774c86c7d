"""What FSDP2 does to the model: accelerate's own preparation, as scripts/fsdp2.json asks for it, on CPU processes.

torchrun --standalone --nproc_per_node=2 tests/fsdp_ranks.py RESULT.json CHECKPOINT...

accelerate makes FSDP2 of a run on GPUs only, so train.py cannot be run here; its function that splits the model can.
Writes a list to RESULT.json, since gloo writes to standard output too: for each checkpoint, an update of the plain
model and of the split one.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.distributed as dist
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import TrainingArguments

from data.loading.collate import pack
from models.load import load_checkpoint
from models.packed_attention import use_packed_attention
from models.training.engine_record import engine_record
from models.training.loss_average import weigh_losses
from models.training.trainer import freeze_modules
from tests.samples import text_example


def prepare(model: nn.Module) -> nn.Module:
    """Split the model as accelerate does on GPUs, with the library's reading of our configuration."""
    arguments = TrainingArguments("unused", use_cpu=True, fsdp=True, fsdp_config="scripts/fsdp2.json")
    plugin = FullyShardedDataParallelPlugin(**arguments.fsdp_plugin_args)
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin),
        mixed_precision="no",
        is_main_process=dist.get_rank() == 0,
        device=torch.device("cpu"),
        torch_device_mesh=init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("dp_shard",)),
        parallelism_config=SimpleNamespace(fsdp_dim_names=("dp_shard",)),
    )
    return fsdp2_prepare_model(accelerator, model)


def batch_of(model: nn.Module, rank: int) -> dict:
    """A row of two samples, the first with an image; each rank has its own."""
    generator = torch.Generator().manual_seed(rank)
    ids = torch.randint(20, 200, (12 + rank,), generator=generator)
    ids[3:7] = model.config.video_token_id
    shown, read = text_example(ids), text_example(torch.randint(20, 200, (9,), generator=generator))
    shown.patches = torch.randint(0, 256, (16, 1176), dtype=torch.uint8, generator=generator)
    shown.grid_thw = torch.tensor([[1, 4, 4]])
    batch = pack([shown, read])
    batch.pop("sources")
    return batch


def update(model: nn.Module, batches: list[dict]) -> dict:
    """An update of this process's batches by AdamW: its loss, and whole, gradients and the weights after it."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    total = 0.0
    for batch in batches:
        loss = model(**batch).loss / len(batches)
        loss.backward()
        total += float(loss.detach())
    gradients = {name: whole(p.grad) for name, p in model.named_parameters() if p.requires_grad}
    optimizer.step()
    weights = {name: whole(p) for name, p in model.named_parameters()}
    return {"loss": total, "gradients": gradients, "weights": weights, "optimizer": optimizer}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of it, wherever its parts are."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of two sets of tensors, relative to the largest number of each tensor."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max()) for name in one)


def compare(folder: str) -> dict:
    """Both updates of one checkpoint."""
    rank, world = dist.get_rank(), dist.get_world_size()
    plain, split = (load_checkpoint(folder, device="cpu", dtype="float32").model.train() for _ in range(2))
    for model in (plain, split):
        freeze_modules(model, ["visual"])
        use_packed_attention(model)
    batches = [batch_of(plain, r) for r in range(world)]
    counts = [count for batch in batches for count in batch["supervised"]]
    for batch in batches:  # an update of one batch on each rank
        weigh_losses([batch], "token", lambda local: [float(len(counts)), float(sum(counts))], world)
    before = {name: p.detach().clone() for name, p in plain.named_parameters()}
    expected = update(plain, batches)
    tied = split.lm_head.weight is split.get_input_embeddings().weight
    split = prepare(split)
    found = update(split, [batches[rank]])
    losses = [None] * world
    dist.all_gather_object(losses, found["loss"])
    return {
        "tied": tied,
        "units": [name for name, module in split.named_modules() if isinstance(module, FSDPModule)],
        "not_split": [name for name, p in split.named_parameters() if not isinstance(p, DTensor)],
        "losses": [expected["loss"], sum(losses) / world],
        "gradients_differ_by": furthest(expected["gradients"], found["gradients"]),
        "weights_differ_by": furthest(expected["weights"], found["weights"]),
        "moved_by": furthest(before, expected["weights"]),
        "parameters": sum(p.numel() for p in plain.parameters()),
        "trained": sum(p.numel() for p in plain.parameters() if p.requires_grad),
        "record": engine_record(split, found["optimizer"]),
    }


if __name__ == "__main__":
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    result, *checkpoints = sys.argv[1:]
    found = [compare(checkpoint) for checkpoint in checkpoints]
    if dist.get_rank() == 0:
        Path(result).write_text(json.dumps(found))
    dist.destroy_process_group()
