"""What of its past a stream keeps: everything (`full`), a window, or text alone every few minutes (`reprefill`)."""

from dataclasses import dataclass, field
from typing import Literal

from utils.errors import UserError

CachePolicy = Literal["full", "window", "reprefill"]


@dataclass(frozen=True)
class RetentionOptions:
    """Limits in tokens and seconds.

    `window` keeps the sinks (system turn, first turn and query: their text always, their frames where both fit in
    `sink_tokens`), the latest whole steps of text within `text_tokens`, and the frames of the last `vision_s` seconds,
    no more than `vision_tokens` of them. `reprefill` reads the text again without its frames every `reprefill_s`
    seconds, at most `reprefill_text_tokens` of it. (Sinks: Xiao et al. 2024; reading again: the LiveCC paper, 2025.)
    """

    cache_policy: CachePolicy = field(
        default="full",
        metadata={"help": "full (everything), window (bounded for ever) or reprefill (text; frames are dropped)"},
    )
    sink_tokens: int = field(
        default=512, metadata={"help": "window: the first turn's frames stay where it has no more tokens than this"}
    )
    text_tokens: int = field(default=512, metadata={"help": "window: tokens of the latest text"})
    vision_s: float = field(default=16.0, metadata={"help": "window: seconds of the latest frames"})
    vision_tokens: int | None = field(default=None, metadata={"help": "window: most visual tokens; default: no limit"})
    reprefill_s: float = field(
        default=240.0, metadata={"help": "reprefill: seconds after which frames are dropped and text is read again"}
    )
    reprefill_text_tokens: int = field(
        default=16384, metadata={"help": "reprefill: most tokens of text that are read again"}
    )

    def check(self) -> None:
        """Raise UserError for limits that cannot work."""
        for name in ("sink_tokens", "text_tokens", "vision_s", "reprefill_s", "reprefill_text_tokens"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name} {getattr(self, name)}: must be 0 or more")
        if self.vision_s < 1:
            raise UserError(f"--vision_s {self.vision_s}: a step's own second must be kept; give 1 or more")
