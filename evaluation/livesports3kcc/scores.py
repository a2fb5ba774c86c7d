"""LiveSports-3K-CC's scores: win rate against a baseline's captions, and its published judgements (.jsonl)."""

import json
from collections.abc import Iterator
from pathlib import Path

from evaluation.scoring.preference import headline_problem, summary
from evaluation.scoring.results import BenchmarkRun, ItemResult
from utils.errors import UserError

__all__ = ["MEAN_OVER", "PROTOCOLS", "PUBLISHED", "headline_problem", "read", "summary"]

PROTOCOLS = {
    "livecc": (
        "captions of offline models are of the whole video: the event's start and end are not used (commentary of "
        "streaming models is of the event under either protocol)",
    ),
    "official": ("captions of offline models are of the event's own window",),
}
MEAN_OVER = ()
PUBLISHED = ("*judges/*.jsonl",)


def read(path: Path) -> BenchmarkRun:
    """Published judgements: a line an event with video_event_id, ab_winner, ba_winner (names of the two models).

    The file is named BASELINE_MODEL.jsonl. Where ../livecc/MODEL.jsonl and ../captions/BASELINE.jsonl lie beside its
    folder, their texts go into the items' results. Raises UserError, with the line, where it is no such file.
    """
    rows = list(_rows(path, ("video_event_id", "ab_winner", "ba_winner")))
    baseline, model = _names(path, {str(row[key]) for row in rows for key in ("ab_winner", "ba_winner")})
    said = _texts(path.parent.parent / "livecc" / f"{model}.jsonl")
    captions = _texts(path.parent.parent / "captions" / f"{baseline}.jsonl")
    roles = {model: "model", baseline: "baseline"}
    results = [_result(row, roles, said, captions) for row in rows]
    return BenchmarkRun(
        "livesports3kcc", "livecc", model, "", results, {"published_file": path.name, "baseline": baseline}
    )


def _result(row: dict, roles: dict[str, str], said: dict[str, str], captions: dict[str, str]) -> ItemResult:
    event = row["video_event_id"]
    ends = {order: roles.get(row[f"{order}_winner"], "tie") for order in ("ab", "ba")}
    texts = {"commentary": said.get(event), "baseline": captions.get(event)}
    shown = {**ends, **{name: text for name, text in texts.items() if text is not None}}
    value = sum(end == "model" for end in ends.values()) / len(ends)
    return ItemResult(event, event.rsplit("_", 1)[0], value, answer=texts["commentary"], shown=shown)


def _names(path: Path, winners: set[str]) -> tuple[str, str]:
    """Baseline and model, from BASELINE_MODEL and the names of those that ever won."""
    for winner in sorted(winners):
        if path.stem.startswith(f"{winner}_") and len(path.stem) > len(winner) + 1:
            return winner, path.stem[len(winner) + 1 :]
        if path.stem.endswith(f"_{winner}") and len(path.stem) > len(winner) + 1:
            return path.stem[: -len(winner) - 1], winner
    raise UserError(
        f"{path}: none of the winners in it ({', '.join(sorted(winners)[:4])}) is named by the file, which must be "
        "called BASELINE_MODEL.jsonl; rename it"
    )


def _texts(path: Path) -> dict[str, str]:
    """Event -> text, of a file of commentaries or captions; nothing where there is no such file."""
    if not path.is_file():
        return {}
    rows = _rows(path, ("video_id", "event_id", "pred"))
    return {f"{row['video_id']}_{row['event_id']}": str(row["pred"]) for row in rows}


def _rows(path: Path, keys: tuple[str, ...]) -> Iterator[dict]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            missing = [key for key in keys if key not in row]
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}:{number}: no JSON object ({error})") from error
        if missing:
            raise UserError(f"{path}:{number}: has no {', '.join(missing)}")
        yield row
