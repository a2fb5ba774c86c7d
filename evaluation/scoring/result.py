"""A finished run as one file: what was asked of whom and how, and what became of every item."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from evaluation.scoring.outcome import Outcome
from utils.errors import UserError
from utils.files import write_whole

FORMAT = "livecc-result-1"


@dataclass(frozen=True)
class Result:
    """Outcomes of one model on one setting of one benchmark. settings: all that decided the answers (store.py)."""

    benchmark: str
    protocol: str
    model: str
    setting: str
    outcomes: list[Outcome]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """The name under which it is kept."""
        parts = (self.model, self.setting, self.protocol)
        return "_".join(part for part in parts if part) + ".result.json"

    def write(self, folder: Path) -> Path:
        """Write it whole into a folder; returns the file."""
        path = folder / self.file_name
        write_whole(path, json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=1) + "\n")
        return path

    @classmethod
    def read(cls, path: Path) -> "Result":
        """Read such a file. Raises UserError where it is none."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept.pop("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT}")
            return cls(**{**kept, "outcomes": [Outcome(**outcome) for outcome in kept["outcomes"]]})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path}: no result file ({error}); give one that an evaluation wrote") from error
