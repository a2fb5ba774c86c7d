"""Burn a commentary's captions and chat into its video, with the sound kept, and speak it if asked to.

    python demo/render/video.py VIDEO COMMENTARY.json OUT.mp4
    python demo/render/video.py match.mp4 match.json out.mp4 --font_size 64 --crf 18 --overwrite
    python demo/render/video.py match.mp4 match.json out.mp4 --speech auto

COMMENTARY.json is what `python demo/cli.py --output_json FILE` writes, a file of the web demo, or another form that
demo/render/commentary.py reads. Hardware: a CPU; one idle core renders 1080p about 1.5 times as fast as it plays
(dev/benchmarks/render.md), in 1.4 GB of memory for 4K. OUT.mp4 (H.264, AAC where sound cannot be copied) appears when
it is complete; a file that is there already is replaced only with --overwrite. Exit status: 0, 2 for bad input, 130
after Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from demo.render.commentary import FinishedCommentary, read_commentary
from utils.arguments import helped, parse_arguments
from utils.errors import UserError, run_command

# (frames written, frames in all as far as known); an exception that it raises ends the rendering and leaves nothing.
Progress = Callable[[int, int], None]


@dataclass
class RenderOptions:
    """Options of the rendered video."""

    captions: bool = helped(True, "burn in what was said; --captions False leaves it out")
    captions_at: Literal["end", "start"] = helped(
        "end", "show words when their step was spoken (end), or from the beginning of its seconds (start)"
    )
    chat: bool = helped(True, "show questions and answers as bubbles")
    font_size: float | None = helped(None, "of captions, in pixels; default: a twentieth of the height", gt=0)
    font: str | None = helped(
        None, "font file; default: DejaVu Sans, or an installed font that has characters which DejaVu lacks"
    )
    crf: int = helped(20, "quality of H.264, 0 (lossless) to 51 (worst)", le=51)
    speech: Literal["none", "auto", "espeak-ng", "piper"] = helped(
        "none", "also speak: auto takes the engine that is installed"
    )
    voice: str | None = helped(None, "espeak-ng's voice, such as en-us or de (default: en), or piper's file NAME.onnx")


@dataclass
class FileArguments:
    """Files that are read and written."""

    video: str = field(metadata={"positional": True, "help": "video file", "path": "file"})
    commentary: str = field(metadata={"positional": True, "help": "JSON file of its commentary", "path": "file"})
    out: str = field(
        metadata={"positional": True, "metavar": "OUT.mp4", "help": "MP4 file to write", "path": "output_file"}
    )
    overwrite: bool = helped(False, "replace OUT.mp4 where it is there already")


def render(
    video_path: str | Path,
    commentary: FinishedCommentary,
    out_path: str | Path,
    options: RenderOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write out_path, an MP4 file, whole or not at all. Raises UserError for what cannot be read or written.

    Frames keep their times, counted from the file's start; where one stays for longer than half a second, it is
    repeated at the moments at which captions change.
    """
    options = options or RenderOptions()
    video_path, out_path = Path(video_path), Path(out_path)
    _check(video_path, out_path, options, overwrite)
    from demo.render.rendering import Rendering  # PyAV and Pillow: --help need not wait for them
    from demo.render.whole import whole_file

    with Rendering(video_path, commentary, options) as rendering, whole_file(out_path) as partial:
        rendering.run(partial, progress or (lambda n_done, n_all: None))


def _check(video: Path, out: Path, options: RenderOptions, overwrite: bool) -> None:
    """Raise UserError for values that cannot work, before anything is read."""
    if out.suffix.lower() not in (".mp4", ".m4v"):
        raise UserError(f"{out}: an MP4 file is written; let its name end in .mp4")
    if not out.absolute().parent.is_dir():
        raise UserError(f"{out}: its folder is not there; make it first")
    if out.is_dir() or (out.exists() and not out.is_file()):
        raise UserError(f"{out}: is no file; give the name of an MP4 file to write")
    if out.exists() and video.exists() and out.samefile(video):
        raise UserError(f"{out}: is the video itself, which is still being read; give another name")
    if out.exists() and not overwrite:
        raise UserError(f"{out}: is there already; give another name, or --overwrite")
    if not 0 <= options.crf <= 51:
        raise UserError(f"--crf {options.crf}: must be from 0 (lossless) to 51 (worst); 18 to 28 are usual")
    if options.font_size is not None and not 4 <= options.font_size <= 1000:
        raise UserError(f"--font_size {options.font_size:g}: must be from 4 to 1000 pixels")


def main(argv: list[str] | None = None) -> int:
    """Run the command."""
    description = __doc__.splitlines()[0]
    files, options = parse_arguments(FileArguments, RenderOptions, description=description, argv=argv)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    commentary = read_commentary(files.commentary, files.video)
    with progress_bar() as progress:
        render(files.video, commentary, files.out, options, overwrite=files.overwrite, progress=progress)
    return 0


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Frames, frames a second and time left, on stderr."""
    from tqdm import tqdm

    with tqdm(unit=" frames", disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:

        def show(n_done: int, n_all: int) -> None:
            bar.total = n_all
            bar.update(n_done - bar.n)

        yield show


if __name__ == "__main__":
    run_command(main)
