"""The prompt templates of the benchmarks: text files in evaluation/templates, or a user's own."""

from pathlib import Path

from utils import templates

FOLDER = Path(__file__).parents[1] / "templates"


class PromptTemplates(templates.Templates):
    """The templates of evaluation/templates, or those of the same names in a folder that replaces some of them."""

    def __init__(self, folder: str | None = None):
        super().__init__(FOLDER, folder)
