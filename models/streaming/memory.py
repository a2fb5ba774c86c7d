"""Memory of reading many tokens at once: refused where it is not there, before the kernel ends the process."""

import psutil
import torch

from models.qwen2_vl import StreamingQwen2VL
from utils.errors import UserError

UNCHECKED_TOKENS = 4096  # read at once without a look
MASK_BYTES = 5  # of a pair of tokens and a query head of a group: the mask as bool, and as torch's attention takes it


def check_memory(model: StreamingQwen2VL, n_new: int, n_context: int) -> None:
    """Raise UserError, with both numbers, where the attention of n_new tokens does not fit beside what is there."""
    if n_new <= UNCHECKED_TOKENS:
        return
    config = model.config.text_config
    group = config.num_attention_heads // config.num_key_value_heads
    needed, free = MASK_BYTES * group * n_new * (n_context + n_new), free_bytes(model.device)
    if needed > free:
        raise UserError(
            f"{n_new:,} tokens to read at once, after {n_context:,}: attention takes {needed / 1e9:.1f} GB, "
            f"and {free / 1e9:.1f} GB are free on {model.device}; give a shorter text"
        )


def free_bytes(device: torch.device) -> int:
    """Memory that can still be taken on a device."""
    if device.type != "cuda":
        return psutil.virtual_memory().available
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached
