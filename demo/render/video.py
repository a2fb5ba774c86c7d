"""Burn a commentary's captions and chat into a video (not written yet).

python demo/render/video.py VIDEO COMMENTARY.json OUT.mp4
"""

from collections.abc import Callable
from pathlib import Path

from demo.render.commentary import Commentary

# (frames written, frames in all as far as known); an exception that it raises ends the rendering and leaves nothing.
Progress = Callable[[int, int], None]


def render(
    video_path: str | Path,
    commentary: Commentary,
    out_path: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write out_path, an MP4 file, whole or not at all. Raises UserError for what cannot be read or written."""
    raise NotImplementedError
