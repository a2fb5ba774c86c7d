"""A hub id or a folder -> model, processor, chat format, position mode and video limits."""

import functools
import importlib.util
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import AutoProcessor, BitsAndBytesConfig, GenerationConfig

from data.samples.checkpoint_config import choose_position_mode, limits_of, read_config
from data.samples.conversation import ChatFormat
from data.samples.families import Family, family_of
from data.samples.positions import PositionMode
from data.video.frame_plan import VideoLimits
from models.checkpoint_arguments import PositionArguments
from models.qwen2_vl import STREAMING, StreamingModel
from models.streaming.requests import Batch
from models.weight_files import check_weight_files
from utils.arguments import helped
from utils.errors import UserError, one_line

logger = logging.getLogger(__name__)

# Checkpoints from before transformers 4.52, the released ones among them, name their weights differently; the library
# renames them for its own classes only.
OLD_WEIGHT_NAMES = {r"^visual": "model.visual", r"^model(?!\.(language_model|visual))": "model.language_model"}
# The base models' own template has no turns; the instruct one is the format that streams are trained in.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass
class ModelArguments(PositionArguments):
    """Which weights, and how they run."""

    pretrained_model_name_or_path: str = field(
        kw_only=True, metadata={"help": "hub id or folder of a Qwen2-VL or Qwen2.5-VL checkpoint"}
    )
    attn_implementation: str | None = helped(None, "flash_attention_2 where installed on a GPU in 16 bits, else sdpa")


@dataclass
class Checkpoint:
    """A model with everything that must match it."""

    model: StreamingModel
    processor: Any
    chat: ChatFormat
    position_mode: PositionMode
    limits: VideoLimits
    name: str

    @functools.cached_property
    def batch(self) -> Batch:
        """Batch of the sessions that run one at a time; an engine has its own."""
        return Batch(self.model)

    @property
    def family(self) -> Family:
        """What data must know of its family."""
        return family_of(self.model.config)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    @functools.cached_property
    def folder(self) -> Path:
        """The local folder of its files; those of a hub id are in the hub's cache by now."""
        local = Path(self.name)
        return local if local.is_dir() else Path(snapshot_download(self.name, local_files_only=True))

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids that end a turn: those of the generation config, the turn's end always among them."""
        return tuple(self.model.generation_config.eos_token_id)

    def save(self, folder: str | Path) -> None:
        """Write a folder that this project and plain transformers load: weights, processor, generation config."""
        self.model.save_pretrained(folder)
        self.save_companions(folder)

    def save_companions(self, folder: str | Path) -> None:
        """Write what belongs beside the weights; beside adapters too, which bring no config of their own."""
        self.model.config.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        self.model.generation_config.save_pretrained(folder)


def load_checkpoint(
    name_or_path: str | Path,
    *,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    attn_implementation: str | None = None,
    position_mode: PositionMode | None = None,
    quantization: BitsAndBytesConfig | None = None,
) -> Checkpoint:
    """Load a Qwen2-VL or Qwen2.5-VL checkpoint from a local folder or, where there is none, from the hub.

    device: default the fastest here (cuda, mps, cpu). dtype: "float32", "bfloat16", ...; default bfloat16 on a GPU,
    float32 on a CPU. quantization: keep the text model's matrices in fewer bits (models/training/lora.py). Weights are
    read from safetensors only. Raises UserError for a missing or unsuitable checkpoint.
    """
    name = str(Path(name_or_path).expanduser()) if str(name_or_path).startswith("~") else str(name_or_path)
    if (Path(name) / "config.json").is_file() and not (Path(name) / "adapter_config.json").is_file():
        check_weight_files(Path(name))
    config = read_config(name)
    device = chosen_device(device)
    dtype = _dtype(dtype, device)
    try:
        model, report = STREAMING[config.model_type].from_pretrained(
            name,
            config=config,
            dtype=dtype,
            attn_implementation=attn_implementation or preferred_attention(device, dtype),
            use_safetensors=True,
            key_mapping=OLD_WEIGHT_NAMES,
            output_loading_info=True,
            **({"quantization_config": quantization, "device_map": {"": device}} if quantization else {}),
        )
        processor = AutoProcessor.from_pretrained(name)
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise UserError(f"{name}: cannot be loaded ({one_line(error)}); check the folder or the hub id") from error
    for what, why in (
        ("missing", "the checkpoint is incomplete"),
        ("unexpected", "its config is another model's"),
    ):
        if keys := sorted(report[f"{what}_keys"]):
            raise UserError(f"{name}: {len(keys)} weights are {what} ({keys[0]}, ...); {why}")
    _check_vocabulary(name, model, processor.tokenizer)
    chat = ChatFormat(processor.tokenizer)
    mode = choose_position_mode(config, name, position_mode)
    limits = limits_of(config)
    # Saved with the weights, so that whoever loads them sees the videos as the model was trained to.
    model.config.position_mode, model.config.video_limits = mode, asdict(limits)
    _complete(model, processor, chat)
    placed = model if quantization else model.to(device)
    return Checkpoint(placed.eval(), processor, chat, mode, limits, name)


def chosen_device(device: str | torch.device | None) -> torch.device:
    """The device of this name, or the fastest. Raises UserError for one that is not there."""
    if not device:
        return preferred_device()
    here = [*(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    here = [*(["cuda", *here] if here else []), *(["mps"] if torch.backends.mps.is_available() else []), "cpu"]
    if str(device) not in here and str(device).removesuffix(":0") not in here:  # launchers number the only one too
        raise UserError(f"--device {device}: not there; PyTorch {torch.__version__} sees {', '.join(here)}")
    return torch.device(device)


def preferred_device() -> torch.device:
    """The fastest device of this machine."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def preferred_attention(device: torch.device, dtype: torch.dtype) -> str:
    """flash_attention_2 where the package is installed and a GPU computes in 16 bits, all that it takes; else sdpa."""
    fits = device.type == "cuda" and dtype in (torch.bfloat16, torch.float16)
    return "flash_attention_2" if fits and importlib.util.find_spec("flash_attn") else "sdpa"


def _dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    name = dtype or ("float32" if device.type == "cpu" else "bfloat16")
    choices = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in choices:
        raise UserError(f"dtype {name!r}: choose one of {', '.join(choices)}")
    return choices[name]


def _check_vocabulary(name: str, model: StreamingModel, tokenizer: Any) -> None:
    n_rows, n_tokens = model.get_input_embeddings().num_embeddings, max(tokenizer.get_vocab().values()) + 1
    if n_tokens > n_rows:
        raise UserError(
            f"{name}: the tokenizer has {n_tokens:,} tokens and the embedding {n_rows:,} rows; give the tokenizer of "
            "these weights, or resize them: model.resize_token_embeddings(len(tokenizer))"
        )


def _complete(model: StreamingModel, processor: Any, chat: ChatFormat) -> None:
    """Give base checkpoints what a stream needs: the chat template, and the turn's end as an end of generation."""
    if not processor.chat_template or "im_start" not in str(processor.chat_template):
        processor.chat_template = processor.tokenizer.chat_template = CHAT_TEMPLATE
    generation = model.generation_config or GenerationConfig()
    eos = generation.eos_token_id
    eos = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
    generation.eos_token_id = list(dict.fromkeys([chat.im_end, *eos]))
    model.generation_config = generation
