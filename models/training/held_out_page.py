"""Held-out commentary as an HTML page: a frame, what the model said in that second, what the annotation says.

One file that works offline; the template escapes all texts, and the page's policy allows no script and no address.
"""

from pathlib import Path

from data.preview.page import POLICY, STYLE, thumbnail
from utils.files import write_whole
from utils.pages import page_template

TEMPLATE = Path(__file__).with_name("held_out_page.html")


def write_page(path: Path, title: str, clips: dict) -> None:
    """Write the page; clips: title -> list of SpokenStep (models/training/held_out.py)."""
    template = page_template(TEMPLATE, thumbnail=thumbnail)
    style = STYLE.read_text(encoding="utf-8")
    write_whole(path, template.render(title=title, clips=clips, policy=POLICY, style=style))
