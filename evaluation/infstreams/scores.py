"""Inf-Streams-Eval's scores: win rate over windows of long streams, judged as LiveSports-3K-CC's events are."""

from pathlib import Path
from typing import NoReturn

from evaluation.scoring.preference import headline_problem, summary
from utils.errors import UserError

__all__ = ["MEAN_OVER", "PROTOCOLS", "PUBLISHED", "headline_problem", "read", "summary"]

PROTOCOLS = {
    "infinite": ("a game is commented on in one go, and a window is what was said in it",),
    "chunk": ("the commentary starts anew every so many seconds (published: 100), with nothing remembered",),
}
MEAN_OVER = ()
PUBLISHED = ()


def read(path: Path) -> NoReturn:
    """No result files of this benchmark can be read."""
    raise UserError(f"{path}: Inf-Streams-Eval has no published result format here; give a *.result.json")
