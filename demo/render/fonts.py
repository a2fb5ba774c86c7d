"""Which font file draws a text, and which of its characters no font here can draw."""

import logging
import unicodedata
from functools import lru_cache
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError
from PIL import ImageFont

from utils.errors import UserError

log = logging.getLogger(__name__)

NAMED = 12  # missing characters named in a message


def default_font() -> Path:
    """DejaVu Sans, which matplotlib ships: Latin, Greek, Cyrillic, Arabic, Hebrew, some symbols and emoji."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def choose_font(text: str, given: str | Path | None = None) -> Path:
    """The font file to draw `text` with: the given one, else DejaVu, else an installed one that has more of it.

    Characters that it lacks are drawn as empty boxes; a warning names them. Raises UserError where the given file is
    no font.
    """
    path = Path(given) if given else default_font()
    missing = missing_characters(text, path)
    if missing and not given:
        path, missing = min(
            ((p, _missing_quietly(text, p)) for p in [path, *_installed()]), key=lambda pair: len(pair[1])
        )
    if missing:
        some = " ".join(f"{c} (U+{ord(c):04X})" for c in sorted(missing)[:NAMED]) + " ..." * (len(missing) > NAMED)
        log.warning(
            "%s has no glyph for %d characters, drawn as empty boxes: %s; give --font FILE with a font that has them "
            "(Debian: apt-get install fonts-noto-core fonts-noto-cjk)", path.name, len(missing), some,
        )  # fmt: skip
    return path


def open_font(path: Path, size: float) -> ImageFont.FreeTypeFont:
    """The font at a size in pixels. Raises UserError where the file is no font."""
    try:
        return ImageFont.truetype(str(path), size)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as a font ({error}); give a .ttf, .otf or .ttc file") from error


def missing_characters(text: str, path: Path) -> set[str]:
    """Visible characters of `text` that the font has no glyph for. Raises UserError where the file is no font."""
    known = _characters(path)
    return {c for c in set(text) if ord(c) not in known and unicodedata.category(c) not in ("Cf", "Zs", "Cc", "Mn")}


def _missing_quietly(text: str, path: Path) -> set[str]:
    try:
        return missing_characters(text, path)
    except UserError:  # a damaged font among the installed ones
        return set(text)


@lru_cache(maxsize=256)
def _characters(path: Path) -> frozenset[int]:
    try:
        with TTFont(path, lazy=True, fontNumber=0) as font:
            return frozenset(font.getBestCmap() or ())
    except (OSError, TTLibError, ValueError, AssertionError, KeyError) as error:
        cause = "no such file" if isinstance(error, FileNotFoundError) else str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read as a font ({cause}); give a .ttf, .otf or .ttc file") from error


def _installed() -> list[Path]:
    """Upright outline fonts of the system, regular ones first."""
    from matplotlib.font_manager import findSystemFonts

    paths = [Path(path) for path in findSystemFonts()]
    upright = [p for p in paths if not any(w in p.stem.lower() for w in ("italic", "oblique", "mono", "emoji"))]
    return sorted(upright, key=lambda p: ("bold" in p.stem.lower(), "sans" not in p.stem.lower(), p.name))
