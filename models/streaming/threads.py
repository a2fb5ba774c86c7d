"""Number of CPU threads: on several, the products of a small model wait longer than they run.

Most of all in an engine, whose thread is not the process's first: OpenMP then has one team of threads more than cores.
"""

import torch

from models.qwen2_vl import StreamingModel

SMALL_HIDDEN_SIZE = 512  # below it one thread was the faster (dev/benchmarks/streaming.md, "Threads")


def use_threads(model: StreamingModel) -> int:
    """Set the number of threads of this process to what pays for the model; returns it.

    To be called by a command, before it starts threads of its own: the setting is the whole process's.
    """
    if model.device.type == "cpu" and model.config.get_text_config().hidden_size < SMALL_HIDDEN_SIZE:
        torch.set_num_threads(1)
    return torch.get_num_threads()
