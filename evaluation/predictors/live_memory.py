"""Flags of what a stream remembers, apart from the predictor, whose imports take seconds."""

from dataclasses import dataclass

from models.streaming.options import CachePolicy, RetentionOptions
from utils.arguments import helped
from utils.options import flags_of


@dataclass
class LiveMemory(flags_of(RetentionOptions)):
    """What the model remembers of a stream."""

    cache_policy: CachePolicy = helped(
        "window", "window (bounded for ever), reprefill (text; frames are dropped) or full (everything)"
    )
