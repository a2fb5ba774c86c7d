"""The prompt templates of the benchmarks: files in evaluation/templates, or a user's own, and whose words they are."""

import hashlib
from pathlib import Path

from evaluation.scoring.protocol import AUTHORS, OURS, SEED, Origin
from utils import templates

FOLDER = Path(__file__).parents[1] / "templates"
SHIPPED: dict[str, Origin] = {
    "multiple_choice": SEED, "videomme_official": AUTHORS, "videomme_official_subtitles": AUTHORS,
}  # fmt: skip
# Longer prompts are not shipped. A user's template is known to be the authors' by its digest (words_digest); the prompt
# itself stands in their repository, with $names in the place of its fields.
AUTHORS_WORDS = {
    "ovobench_choice": "d570ea20839d962b",
    "ovobench_rec": "f8c2db1b4ea65cbc",
    "ovobench_ssr": "990db5a23a264c3b",
    "ovobench_crr": "f9000d835b92fa95",
    "mvbench_official": "5ae9f47651a3bebb",
    "streamingbench": "280be69f7e26700c",
    "streamingbench_sqa": "dc5ead9cf0fa302f",
    "streamingbench_earlier": "2a1d4a6471098533",
    "streamingbench_earlier_one": "83e2834a9bfc74a2",
    "streamingbench_proactive": "ce6f861ffcbf4c8f",
    "videommev2": "b516f33f5139a7b3",
    "longvideobench": "a4dd2fcc283010e3",
    "mlvu": "bef7595c6f4fccb8",
}


class PromptTemplates(templates.Templates):
    """The templates of evaluation/templates, or those of the same names in a folder that replaces some of them."""

    def __init__(self, folder: str | None = None):
        super().__init__(FOLDER, folder)
        self._own = Path(folder) if folder else None

    def origin(self) -> Origin:
        """Whose the words are that were used so far: the authors' or the seed's where all of them are, else ours."""
        origins = {self._origin(name, text) for name, text in self._texts.items()}
        return origins.pop() if len(origins) == 1 else OURS

    def _origin(self, name: str, text: str) -> Origin:
        if words_digest(text) == AUTHORS_WORDS.get(name):
            return AUTHORS
        is_shipped = self._own is None or not (self._own / f"{name}.txt").is_file()
        return SHIPPED.get(name, OURS) if is_shipped else OURS


def words_digest(text: str) -> str:
    """16 hex digits of a template's words, however they are spaced."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]
