"""Write a commentary as subtitles or text.

    python demo/render/subtitles.py COMMENTARY.json OUT.srt
    python demo/render/subtitles.py COMMENTARY.json OUT.vtt --captions_at start --overwrite
    python demo/render/subtitles.py COMMENTARY.json OUT.txt

COMMENTARY.json is what `python demo/cli.py --output_json FILE` writes, a file of the web demo, or another form that
demo/render/commentary.py reads. OUT ends in .srt, .vtt, .txt or .json. A second on any CPU.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import html
import re
from dataclasses import dataclass, field

from demo.render.captions import CaptionsAt, captions
from demo.render.commentary import FinishedCommentary, read_commentary
from demo.render.lines import SENTENCE_ENDS
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command
from utils.files import write_whole

PAUSE_S = 4.0  # of silence, after which a line of plain text ends
SENTENCE_BREAK = re.compile(rf"(?<=[{''.join(SENTENCE_ENDS)}])\s+")
UNMARKED = "\u2060"  # word joiner: no width; keeps what looks like markup from being read as such


def srt(commentary: FinishedCommentary, at: CaptionsAt = "end") -> str:
    """SubRip. It has no way to escape: an invisible character stands inside what players would take for markup."""
    # Not by pysubs2: it reads braces as commands of SubStation and drops them.
    cues = [
        f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{_unmarked(cue.lines)}\n\n"
        for number, cue in enumerate(captions(commentary, at), 1)
    ]
    return "".join(cues)


def vtt(commentary: FinishedCommentary, at: CaptionsAt = "end") -> str:
    """WebVTT, with everything escaped that a browser could take for markup."""
    cues = [
        f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{_escaped(cue.lines)}\n\n"
        for cue in captions(commentary, at)
    ]
    return "WEBVTT\n\n" + "".join(cues)


def plain_text(commentary: FinishedCommentary) -> str:
    """A line for each sentence with the time at which it began, and the questions with their answers."""
    head = (", ".join(filter(None, (commentary.video, commentary.model))), commentary.query)
    told = [(start_s, _paragraph(start_s, text)) for start_s, text in sentences(commentary)]
    for asked_s, question, answer in commentary.questions:
        told.append((asked_s, _paragraph(asked_s, f"Question: {question}", f"Answer: {answer}")))
    parts = ["".join(f"{line}\n" for line in head if line), "".join(text for _, text in sorted(told, key=_time_of))]
    return "\n".join(filter(None, parts))


def _paragraph(time_s: float, *lines: str) -> str:
    clock = _short_clock(time_s)
    margins = [clock] + [" " * len(clock)] * (len(lines) - 1)
    return "".join(f"{margin}  {line}\n" for margin, line in zip(margins, lines, strict=True))


def _time_of(told: tuple[float, str]) -> float:
    return told[0]


def sentences(commentary: FinishedCommentary) -> list[tuple[float, str]]:
    """(start_s, text) of what was said, the steps of a sentence put together; a pause of PAUSE_S ends one too."""
    found: list[tuple[float, str]] = []
    end_s = float("-inf")
    for step in sorted(commentary.steps):
        for part in SENTENCE_BREAK.split(step.text):
            if found and not found[-1][1].endswith(SENTENCE_ENDS) and step.start_s - end_s < PAUSE_S:
                found[-1] = (found[-1][0], f"{found[-1][1]} {part}")
            else:
                found.append((step.start_s, part))
            end_s = step.end_s
    return found


FORMATS = {".srt": srt, ".vtt": vtt, ".txt": lambda commentary, at: plain_text(commentary)}
FORMATS[".json"] = lambda commentary, at: commentary.to_json()


def _unmarked(lines: tuple[str, ...]) -> str:
    text = re.sub(r"<(?=[/a-zA-Z])|\{(?=\\)", lambda match: match[0] + UNMARKED, "\n".join(lines))
    return text.replace("-->", f"--{UNMARKED}>")


def _escaped(lines: tuple[str, ...]) -> str:
    return html.escape("\n".join(lines), quote=False)


def _clock(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3600000:02d}:{ms // 60000 % 60:02d}:{ms // 1000 % 60:02d}{point}{ms % 1000:03d}"


def _short_clock(seconds: float) -> str:
    whole = int(seconds)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    return f"{hours}{whole // 60 % 60:02d}:{whole % 60:02d}"


@dataclass
class SubtitleFileArguments:
    """Files that are read and written, and when captions stand."""

    commentary: str = field(metadata={"positional": True, "help": "JSON file of a commentary", "path": "file"})
    out: str = field(
        metadata={"positional": True, "help": "file to write: .srt, .vtt, .txt or .json", "path": "output_file"}
    )
    captions_at: CaptionsAt = field(
        default="end",
        metadata={"help": "show words when their step was spoken (end), or from the beginning of its seconds (start)"},
    )
    overwrite: bool = field(default=False, metadata={"help": "replace OUT where it is there already"})


def main(argv: list[str] | None = None) -> int:
    """Write the file."""
    (arguments,) = parse_arguments(SubtitleFileArguments, description=__doc__.splitlines()[0], argv=argv)
    out = Path(arguments.out)
    if out.suffix.lower() not in FORMATS:
        raise UserError(f"{out}: its name must end in {', '.join(FORMATS)}, which says what to write")
    commentary = read_commentary(arguments.commentary)
    if out.exists() and not arguments.overwrite:
        raise UserError(f"{out}: is there already; give another name, or --overwrite")
    write_whole(out, FORMATS[out.suffix.lower()](commentary, arguments.captions_at))
    return 0


if __name__ == "__main__":
    run_command(main)
