"""Held-out commentary as an HTML page: a frame, what the model said in that second, what the annotation says.

One file that works offline; texts are escaped and the page's policy allows no script and no address.
"""

from html import escape
from pathlib import Path

from data.preview.page import POLICY, STYLE, thumbnail


def write_page(path: Path, title: str, clips: dict) -> None:
    """Write the page; clips: title -> list of SpokenStep (models/training/held_out.py)."""
    sections = "".join(
        f"<section><h2>{escape(clip)}</h2>{''.join(map(_row, spoken))}</section>\n" for clip, spoken in clips.items()
    )
    path.write_text(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title><style>{STYLE.read_text(encoding="utf-8")}</style></head><body>
<header><h1>Held-out commentary</h1><p class="path">{escape(title)}</p>
<p class="legend"><span class="key trained">said by the model</span><span class="key given">annotation</span></p>
</header>
<main>{sections}</main></body></html>
""",
        encoding="utf-8",
    )


def _row(spoken) -> str:
    picture = f'<figure><img src="{thumbnail(spoken.frame)}" alt="frame at {spoken.end_s:.1f} s"></figure>'
    said = f'<p><span class="trained">{escape(spoken.said) or "..."}</span></p>'
    wanted = f'<p><span class="given">{escape(spoken.wanted) or "..."}</span></p>'
    side = f'<div class="side">{spoken.start_s:.0f}\u2013{spoken.end_s:.0f} s</div>'
    return f'<div class="row">{side}<div class="film">{picture}</div><div>{said}{wanted}</div></div>'
