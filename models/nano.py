"""Build the nano model: an ordinary Qwen2-VL or Qwen2.5-VL checkpoint folder of about a million random weights.

    python -m models.nano --output_dir checkpoints/nano-init --seed 0

Runs on a CPU in a few seconds; `train.py --pretrained_model_name_or_path checkpoints/nano-init` trains it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    GenerationConfig,
    PretrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from data.nano.tokenizer import train_tokenizer
from models.load import CHAT_TEMPLATE
from utils.arguments import helped, parse_arguments
from utils.errors import run_command

# 140 x 84: 5 x 3 visual tokens a step. The limits admit no other size for videos of these proportions.
FRAME_PIXELS = 140 * 84
# The library's classes of a family.
CLASSES = {
    "qwen2_vl": (Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor),
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor),
}


@dataclass
class NanoArguments:
    """Size of the nano model."""

    output_dir: str = field(metadata={"help": "folder of the new checkpoint", "path": "output_folder"})
    family: Literal["qwen2_vl", "qwen2_5_vl"] = helped("qwen2_vl", "qwen2_vl or qwen2_5_vl")
    seed: int = helped(0, "seed of the random weights")
    hidden_size: int = helped(128, "width of the text model", ge=1)
    num_layers: int = helped(3, "layers of the text model", ge=1)
    vision_width: int = helped(96, "width of the vision tower", ge=1)
    vision_depth: int = helped(2, "layers of the vision tower", ge=1)
    rope_theta: float = helped(100.0, "base of the rotary frequencies; small, as contexts are short", gt=0)


def nano_config(tokenizer, arguments: NanoArguments) -> PretrainedConfig:
    """Heads of 32 with M-RoPE sections 4/6/6 and half as many KV heads; vision heads of 32, MLP three times as wide."""
    special = tokenizer.convert_tokens_to_ids
    width = arguments.hidden_size
    config = CLASSES[arguments.family][0](
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=arguments.num_layers,
            num_attention_heads=width // 32,
            num_key_value_heads=max(width // 64, 1),
            max_position_embeddings=32768,
            rope_parameters={"rope_type": "default", "rope_theta": arguments.rope_theta, "mrope_section": [4, 6, 6]},
            tie_word_embeddings=True,
            bos_token_id=special("<|endoftext|>"),
            eos_token_id=special("<|im_end|>"),
            pad_token_id=special("<|endoftext|>"),
        ),
        vision_config=_vision_config(arguments),
        tie_word_embeddings=True,
        image_token_id=special("<|image_pad|>"),
        video_token_id=special("<|video_pad|>"),
        vision_start_token_id=special("<|vision_start|>"),
        vision_end_token_id=special("<|vision_end|>"),
    )
    config.position_mode = "mrope"
    config.video_limits = {"min_pixels": FRAME_PIXELS, "total_pixels": FRAME_PIXELS, "max_frames": 480}
    return config


def _vision_config(arguments: NanoArguments) -> dict[str, Any]:
    width = arguments.vision_width
    shared = {"depth": arguments.vision_depth, "num_heads": width // 32, "patch_size": 14}
    if arguments.family == "qwen2_vl":
        own = {"embed_dim": width, "hidden_size": arguments.hidden_size, "mlp_ratio": 3, "hidden_act": "gelu"}
    else:  # the last block sees whole frames, those before it windows
        own = {"hidden_size": width, "out_hidden_size": arguments.hidden_size, "intermediate_size": 3 * width}
        own |= {"fullatt_block_indexes": [arguments.vision_depth - 1], "window_size": 112, "tokens_per_second": 2}
    return shared | own


def build_nano(arguments: NanoArguments) -> Path:
    """Write weights, processor, chat template and generation config to `arguments.output_dir`; return it."""
    folder = Path(arguments.output_dir)
    tokenizer = train_tokenizer()
    config = nano_config(tokenizer, arguments)
    _, model_class, processor_class = CLASSES[arguments.family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(arguments.seed)
        model = model_class(config)
    ends = [config.text_config.eos_token_id, config.text_config.pad_token_id]
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=ends[1])
    model.save_pretrained(folder)
    processor = processor_class(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(folder)
    return folder


def main() -> None:
    (arguments,) = parse_arguments(NanoArguments, description=__doc__)
    folder = build_nano(arguments)
    weights = json.dumps(str(folder))
    print(f"nano model written to {weights}")


if __name__ == "__main__":
    run_command(main)
