"""Prompt templates: text files of the project, or a user's own of the same names, known by their hash."""

import hashlib
from pathlib import Path
from string import Template

from utils.errors import UserError


class Templates:
    """The templates of a folder, or those of the same names in another one that replaces some of them.

    shipped: the project's; folder: the user's, as --template_dir names it. A template is plain text with $names in it
    (`$$` is a dollar); one newline at its end is not part of it.
    """

    def __init__(self, shipped: Path, folder: str | None = None):
        self._folders = [*([Path(folder)] if folder else []), shipped]
        if folder and not Path(folder).is_dir():
            raise UserError(f"--template_dir {folder}: no such folder")
        self._texts: dict[str, str] = {}

    def fill(self, name: str, **values: str) -> str:
        """Template `name` with its $names filled; the values are taken as they are, whatever they hold."""
        try:
            return Template(self._text(name)).substitute(values)
        except (KeyError, ValueError) as error:
            raise UserError(
                f"template {name}.txt: {error} in it cannot be filled; it may use ${', $'.join(values)} and $$"
            ) from error

    @property
    def hashes(self) -> dict[str, str]:
        """Name -> first 16 hex digits of the SHA-256 of every template used so far."""
        return {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in sorted(self._texts.items())}

    def _text(self, name: str) -> str:
        if name not in self._texts:
            paths = [folder / f"{name}.txt" for folder in self._folders]
            path = next((path for path in paths if path.is_file()), None)
            if path is None:
                raise UserError(f"no template {name}.txt in {' or '.join(map(str, self._folders))}")
            self._texts[name] = path.read_text(encoding="utf-8").removesuffix("\n")
        return self._texts[name]
