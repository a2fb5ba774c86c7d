"""LoRA and QLoRA through peft: small trained matrices beside the frozen ones of a checkpoint, and their merging."""

import importlib.util
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import AutoConfig, BitsAndBytesConfig

from models.load import Checkpoint, load_checkpoint
from models.training.train_arguments import TrainArguments
from utils.arguments import helped
from utils.errors import UserError

if TYPE_CHECKING:
    from peft import PeftModel

TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Where the parts that --freeze_modules names begin.
PARTS = {
    "merger": "model.visual.merger.",
    "visual": "model.visual.",
    "language_model": "model.language_model.",
    "lm_head": "lm_head",
}
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


@dataclass
class LoraArguments:
    """Adapters in place of training the weights themselves."""

    lora_rank: int = helped(0, "rank of the adapters; 0 trains the weights themselves")
    lora_alpha: float | None = helped(None, "adapters are scaled by this over the rank; default: twice the rank")
    lora_dropout: float = helped(0.0, "share of an adapter's inputs left out in training")
    lora_targets: list[str] = field(
        default_factory=lambda: list(TEXT_TARGETS),
        metadata={"help": "ends of the names of the linear layers that get one; default: all of the text model's"},
    )
    lora_bits: int | None = helped(None, "4: keep the frozen weights in 4 bits (QLoRA; bitsandbytes and a GPU)")

    def __post_init__(self) -> None:
        if self.lora_rank < 0:
            raise UserError(f"--lora_rank {self.lora_rank}: at least 1, say 64, or 0 for none")
        if not 0 <= self.lora_dropout < 1:
            raise UserError(f"--lora_dropout {self.lora_dropout}: a share, so at least 0 and less than 1")
        if self.lora_alpha is not None and self.lora_alpha <= 0:
            raise UserError(f"--lora_alpha {self.lora_alpha}: more than 0, say twice the rank")
        if self.lora_bits not in (None, 4):
            raise UserError(f"--lora_bits {self.lora_bits}: 4 is offered; leave the flag out for unquantised weights")
        if not self.lora_rank:
            for name, default in LoraArguments.__dataclass_fields__.items():
                value = default.default_factory() if name == "lora_targets" else default.default
                if getattr(self, name) != value:
                    raise UserError(f"--{name} has no effect without --lora_rank; give a rank, say --lora_rank 64")

    @property
    def alpha(self) -> float:
        """The scale's numerator."""
        return 2 * self.lora_rank if self.lora_alpha is None else self.lora_alpha


def check_together(lora: LoraArguments, args: TrainArguments) -> None:
    """Raise UserError where flags of the run and of the adapters contradict each other."""
    if not lora.lora_rank:
        return
    if importlib.util.find_spec("peft") is None:
        raise UserError("--lora_rank: the package is not installed; pip install peft, or leave the flag out")
    if args.muon_learning_rate is not None:
        raise UserError(
            "--muon_learning_rate with --lora_rank: Muon is for whole matrices trained from scratch; leave one out"
        )
    if lora.lora_bits:
        _check_quantization(args)


def quantization(lora: LoraArguments) -> BitsAndBytesConfig | None:
    """Quantization of the frozen weights: None as they are; under --lora_bits 4 as in the QLoRA paper, section 3.

    The tower and the head stay as they are: they are small beside the text model.
    """
    if not lora.lora_bits:
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=["model.visual", "lm_head"],
    )


def add_adapters(model: nn.Module, lora: LoraArguments, args: TrainArguments) -> "PeftModel":
    """Freeze a model and give the layers named adapters in float32 that at first add nothing.

    The model itself is changed; what is returned is a view of it that saves the adapters alone. They start from
    --seed: the same on every process. UserError for a target that is none, or lies in a frozen part.
    """
    from peft import LoraConfig, get_peft_model

    layers = target_layers(model, lora.lora_targets, args.freeze_modules)
    config = LoraConfig(
        r=lora.lora_rank, lora_alpha=lora.alpha, lora_dropout=lora.lora_dropout, target_modules=layers, bias="none"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        return get_peft_model(model, config)


def target_layers(model: nn.Module, targets: list[str], frozen: list[str]) -> list[str]:
    """Full names of the linear layers whose names end in one of `targets`, outside the parts in `frozen`.

    An end that layers of the text model and of the tower have (gate_proj in Qwen2.5-VL) means the text model's.
    """
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and name != "lm_head"]
    found: list[str] = []
    for target in targets:
        if target == "lm_head":
            raise UserError(
                "--lora_targets lm_head: the loss multiplies the head's matrix itself, so an adapter on it would not "
                "be trained; leave it out"
            )
        ends = [name for name in linear if f".{name}".endswith(f".{target}")]
        named = [name for name in ends if name.startswith(PARTS["language_model"])] or ends
        if not named:
            known = sorted({name.rpartition(".")[2] for name in linear if not name.rpartition(".")[2].isdigit()})
            raise UserError(
                f"--lora_targets {target}: no linear layer of that name; choose from {', '.join(known)}, or longer "
                "ends such as merger.mlp.0"
            )
        for part in frozen:
            inside = [name for name in named if part in PARTS and name.startswith(PARTS[part])]
            if inside:
                raise UserError(
                    f"--freeze_modules {part} and --lora_targets {target} contradict each other: the layer "
                    f"{inside[0]} lies in that part. LoRA freezes every weight of the model anyway, so leave "
                    f"{part} out of --freeze_modules, or {target} out of --lora_targets"
                )
        found += [name for name in named if name not in found]
    return found


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds adapters without the weights that they belong to."""
    return (Path(folder) / ADAPTER_CONFIG).is_file()


def load_adapters(adapters: "PeftModel", folder: str | Path) -> None:
    """Load a checkpoint's adapters in place of the present ones, number for number."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    saved = load_file(Path(folder) / ADAPTER_WEIGHTS)
    result = set_peft_model_state_dict(adapters, saved)
    if result.unexpected_keys:
        raise UserError(
            f"{folder}: {len(result.unexpected_keys)} adapters have no place in this model "
            f"({result.unexpected_keys[0]}, ...); give the --lora_targets and --lora_rank that it was trained with"
        )


def merge(base: str | Path, adapter: str | Path, *, dtype: str | None = None) -> Checkpoint:
    """Merge an adapter into its base checkpoint: products added to weights, on the CPU in float32.

    dtype: of the result; default: that of the base's own weights. The position mode and the video limits are those
    that the adapter was trained with. UserError where there is no adapter, or where it does not fit.
    """
    from peft import PeftModel

    folder = Path(adapter)
    if not is_adapter(folder):
        raise UserError(f"{folder}: no adapter there ({ADAPTER_CONFIG}); give an --output_dir of a --lora_rank run")
    config = folder / "config.json"
    recorded = json.loads(config.read_text("utf-8")) if config.is_file() else {}
    checkpoint = load_checkpoint(base, device="cpu", dtype="float32", position_mode=recorded.get("position_mode"))
    try:
        merged = PeftModel.from_pretrained(checkpoint.model, folder).merge_and_unload()
    except (ValueError, RuntimeError, KeyError) as error:
        raise UserError(
            f"{folder}: does not fit {base} ({str(error).splitlines()[0]}); give the checkpoint that it was trained on"
        ) from error
    merged.config.video_limits = recorded.get("video_limits", merged.config.video_limits)
    target = getattr(torch, dtype) if dtype else AutoConfig.from_pretrained(base).dtype or torch.float32
    for parameter in merged.parameters():  # the rotary frequencies stay in float32
        parameter.data = parameter.data.to(target)
    return checkpoint


def _check_quantization(args: TrainArguments) -> None:
    if args.device.type != "cuda":
        raise UserError(
            f"--lora_bits 4: bitsandbytes needs a GPU, and this run is on {args.device.type}; leave --lora_bits out "
            "for LoRA on unquantised weights"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError("--lora_bits 4: the package is not installed; pip install bitsandbytes")
    if args.fsdp or args.zero_stage == 3:
        raise UserError(
            "--lora_bits 4 does not work with --fsdp or DeepSpeed's ZeRO-3, which would split the 4-bit weights; use "
            "plain torchrun or scripts/deepspeed_zero2.json"
        )
