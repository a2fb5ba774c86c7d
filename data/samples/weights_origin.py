"""Origin of a checkpoint's weights, from the traces that its folder keeps: which positions they were trained with."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from data.samples.positions import PositionMode

# LiveCC's were trained with 1-D positions in effect: Liger 0.5.5 built M-RoPE positions in the first micro-batch of
# each process only.
FAMILIES: dict[str, PositionMode] = {"livecc": "sequential", "qwen2-?vl": "mrope"}
HUB_FOLDER = re.compile(r"models--([^/]+?)--([^/]+)")
BASE_MODEL = re.compile(r"^base_model:((?:[^\n]*)(?:\n *- [^\n]*)*)", re.MULTILINE)
PASSED_OVER = re.compile(r"checkpoint-\d+|snapshots|[0-9a-f]{40}")  # folders that bear no name of their own


class Origin(NamedTuple):
    """Position mode of weights, why it is thought so, and whether that is a guess."""

    position_mode: PositionMode
    why: str
    is_guess: bool


def origin_of(name: str) -> Origin:
    """The origin of the weights of a folder or hub id: by the hub's own names, else guessed.

    Guesses are made from what a fine-tune's config and model card say of its base, and last from the folder's name.
    """
    for text, why, is_guess in _traces(name):
        for family, mode in FAMILIES.items():
            if re.search(family, text, re.IGNORECASE):
                return Origin(mode, f"{why} {text!r}", is_guess)
    return Origin("mrope", "as nothing says where its weights come from", is_guess=True)


def _traces(name: str) -> Iterator[tuple[str, str, bool]]:
    path = Path(name)
    if not path.is_dir():
        yield name, "by its hub id", False
        return
    places = [path.absolute(), path.resolve()]
    for place in places:
        for owner, model in HUB_FOLDER.findall(str(place)):
            yield f"{owner}/{model}", "by the hub's folder", False
    yield _recorded_name(path / "config.json"), "by its config's _name_or_path", True
    yield _base_model(path / "README.md"), "by its model card's base_model", True
    for place in places:
        own = next((part for part in reversed(place.parts) if not PASSED_OVER.fullmatch(part)), "")
        yield own, "by its folder's name", True


def _recorded_name(config: Path) -> str:
    """The name that its weights had when they were loaded to be trained; the library forgets it."""
    try:
        return str(json.loads(config.read_text(encoding="utf-8")).get("_name_or_path") or "")
    except (OSError, ValueError):
        return ""


def _base_model(card: Path) -> str:
    try:
        found = BASE_MODEL.search(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return " ".join(found[1].replace("- ", " ").split()) if found else ""
