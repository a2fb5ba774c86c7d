"""Inf-Streams-Eval's scores: win rate over windows of long streams, judged as LiveSports-3K-CC's events are."""

from pathlib import Path
from typing import NoReturn

from evaluation.preference import summary
from utils.errors import UserError

__all__ = ["MEAN_OVER", "PROTOCOLS", "PUBLISHED", "read", "summary"]

PROTOCOLS = {
    "livecc": ("each window is commented on from its own start, with nothing remembered of the stream before it",),
    "official": ("the stream is commented on from its beginning, and a window is what was said in it",),
}
MEAN_OVER = ()
PUBLISHED = ()


def read(path: Path) -> NoReturn:
    """No result files of this benchmark can be read."""
    raise UserError(f"{path}: Inf-Streams-Eval has no published result format here; give a *.result.json")
