"""Checkpoints for benchmarks: the nano weights, and random weights of larger shapes with the nano world's tokenizer."""

import torch
from transformers import Qwen2VLConfig

from data.nano.tokenizer import train_tokenizer
from data.samples.conversation import ChatFormat
from data.video.frame_plan import VideoLimits
from models.load import Checkpoint
from models.qwen2_vl import StreamingQwen2VL

# Published configurations of the text models; vocabulary and heads as there. The 7B shape has Qwen2-VL's own tower, the
# 0.5B one, which Qwen2-VL does not come in, a small one.
TEXT = {
    "0.5B": dict(hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
                 num_key_value_heads=2, mrope_section=[8, 12, 12], tie_word_embeddings=True),
    "2B": dict(hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
               num_key_value_heads=2, mrope_section=[16, 24, 24], tie_word_embeddings=True),
    "7B": dict(hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
               num_key_value_heads=4, mrope_section=[16, 24, 24], tie_word_embeddings=False),
}  # fmt: skip
VISION = {
    "0.5B": dict(depth=4, embed_dim=320, num_heads=4, mlp_ratio=4),
    "2B": dict(depth=32, embed_dim=1280, num_heads=16, mlp_ratio=4),
    "7B": dict(depth=32, embed_dim=1280, num_heads=16, mlp_ratio=4),
}
VOCABULARY = {"0.5B": 151936, "2B": 151936, "7B": 152064}


def random_checkpoint(
    shape: str, device: str, dtype: torch.dtype, seed: int = 0, n_layers: int | None = None
) -> Checkpoint:
    """A checkpoint of random weights; it speaks at random, at the cost of a trained one. n_layers: cut to so many."""
    chat = ChatFormat(train_tokenizer())
    text = dict(TEXT[shape])
    text["num_hidden_layers"] = n_layers or text["num_hidden_layers"]
    ids = {
        "image_token_id": chat.image_pad,
        "video_token_id": chat.video_pad,
        "vision_start_token_id": chat.vision_start,
        "vision_end_token_id": chat.vision_end,
    }
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": text.pop("mrope_section")}
    text_config = {**text, "vocab_size": VOCABULARY[shape], "max_position_embeddings": 32768, "rope_parameters": rope}
    vision = {**VISION[shape], "hidden_size": text["hidden_size"], "patch_size": 14}
    tied = text["tie_word_embeddings"]
    config = Qwen2VLConfig(text_config=text_config, vision_config=vision, tie_word_embeddings=tied, **ids)
    torch.manual_seed(seed)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = StreamingQwen2VL(config).eval()
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = list(chat.eos_ids)
    limits = VideoLimits(min_pixels=28 * 28, total_pixels=480 * 384 * 28 * 28)
    return Checkpoint(model, None, chat, "mrope", limits, f"random {shape}")
