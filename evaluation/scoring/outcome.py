"""What became of one item: how much it scored, and what it is counted under. All that statistics need to know."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """One item's result.

    value: its score, 0 to 1; a failed item has 0 and stays in the denominator. cluster: the video, by which error bars
    are clustered. tags: category -> group. answer: what was said, None where nothing was; truth: what was right.
    shown: what a page shows beside it (question, options, commentary, reference).
    """

    id: str
    cluster: str
    value: float
    failed: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    answer: Any = None
    truth: Any = None
    shown: dict[str, Any] = field(default_factory=dict)
