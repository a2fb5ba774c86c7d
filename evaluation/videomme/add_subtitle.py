"""Add the subtitles of a folder to the lines of VideoMME.

    python evaluation/videomme/add_subtitle.py --benchmark_path videomme.jsonl --subtitle_dir subtitle \\
        --output videomme_with_subtitles.jsonl

Every line gets a field "subtitles": the words of {videoID}.srt in one line. The published folder leaves out videos in
which nobody speaks, so a video without a file counts as silent: its lines get "" and are asked without subtitles, and
the command says how many and which. --silent False takes a missing file as an error. A CPU is enough: seconds. The
output is written whole, at the end.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from evaluation.tasks.hub_rows import read_rows
from evaluation.videomme.task import HUB, read_subtitles
from utils.arguments import helped, parse_arguments
from utils.errors import UserError, run_command
from utils.files import write_whole

N_NAMED = 5  # videos without a file that are named


@dataclass
class AddSubtitleArguments:
    """The benchmark's lines, the folder of subtitles, and where the lines with subtitles go."""

    benchmark_path: str = field(
        metadata={"help": "videomme.jsonl, one question a line, or the hub's table (.parquet)", "path": "file"}
    )
    subtitle_dir: str = field(metadata={"help": "folder of {videoID}.srt", "path": "folder"})
    output: str = field(
        metadata={"help": "the lines with their subtitles; may be the benchmark file itself", "path": "output_file"}
    )
    silent: bool = helped(True, "--silent False: a video without a file is an error")


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    (arguments,) = parse_arguments(AddSubtitleArguments, description=__doc__.splitlines()[0], argv=argv)
    folder = Path(arguments.subtitle_dir)
    if not folder.is_dir():
        raise UserError(f"--subtitle_dir {folder}: no such folder")
    lines = read_rows(arguments.benchmark_path, HUB)
    names = list(dict.fromkeys(line["videoID"] for line in lines))
    words = {name: words_of(folder, name) for name in names}
    missing = [name for name, text in words.items() if text is None]
    named = ", ".join(missing[:N_NAMED]) + (", ..." if len(missing) > N_NAMED else "")
    if len(missing) == len(names) or (missing and not arguments.silent):
        raise UserError(
            f"{folder}: no .srt for {len(missing)} of {len(names)} videos ({named}); get the benchmark's subtitle.zip: "
            "hf download lmms-lab/Video-MME subtitle.zip --repo-type dataset --local-dir datasets/Video-MME"
        )
    rows = [{**line.fields, "subtitles": words[line["videoID"]] or ""} for line in lines]
    write_whole(Path(arguments.output), "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{len(rows)} lines of {len(names)} videos -> {arguments.output}")
    if missing:
        print(f"{len(missing)} videos have no .srt and count as silent: {named}")


def words_of(folder: Path, video_id: str) -> str | None:
    """The words spoken in a video, None where it has no file. Raises UserError for a name that leads elsewhere."""
    path = folder / f"{video_id}.srt"
    if path.resolve().parent != folder.resolve():
        raise UserError(f"the videoID {video_id!r} leads out of {folder}")
    return read_subtitles(path) if path.is_file() else None


if __name__ == "__main__":
    run_command(main)
