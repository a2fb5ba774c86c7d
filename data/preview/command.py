"""What the model will see of a sample: as a table in the terminal, as JSON, or as a page with the frames.

    python -m data.preview FILE.jsonl --processor DIR --index 0
    python -m data.preview FILE.jsonl --processor DIR --all --html preview.html --json preview.json

DIR is a checkpoint's folder, or one with its processor or tokenizer only. A CPU is enough: about 0.3 s a
sample after 10 s of start. Expected: each step's label, visual tokens and speech, what is trained on marked;
samples that cannot be used are named on stderr with the reason, and the exit status is then 2.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from data.preview.model_view import BlockView, TurnView, view_turns
from data.preview.page import PreviewPage
from data.samples.annotations import AnnotationError, AnnotationFile, Sample
from data.samples.checkpoint_config import choose_position_mode, limits_of, load_processor
from data.samples.conversation import IGNORED, ChatFormat
from data.samples.encoder import Example, SampleEncoder
from data.samples.families import family_of
from data.video.frame_plan import FrameTimes
from utils.arguments import CommandParser, CommonArguments
from utils.errors import UserError

TEXT_WIDTH = 72  # characters of a turn's text in the terminal


@dataclass
class PreviewArguments:
    """Which samples are shown, and where."""

    processor: str = field(metadata={"help": "checkpoint, processor or tokenizer: a folder or hub id"})
    index: int | None = field(default=None, metadata={"help": "the sample to show, counted from 0"})
    all: bool = field(default=False, metadata={"help": "show every sample"})
    media_root: str | None = field(
        default=None, metadata={"help": "folder in which videos and images are looked for before beside the file"}
    )
    with_context: bool = field(default=False, metadata={"help": "add title and earlier speech to a stream's query"})
    json: Path | None = field(
        default=None, metadata={"help": "write ids, labels, grids, times, positions here", "path": "output_file"}
    )
    html: Path | None = field(
        default=None, metadata={"help": "write a page with frames and words here", "path": "output_file"}
    )
    frame_times: FrameTimes = field(
        default="grid", metadata={"help": "time of a frame: on the 2 fps grid, or its end as published (end32)"}
    )
    max_length: int = field(default=32768, metadata={"help": "tokens a sample may have", "ge": 1})


def main(argv: list[str] | None = None) -> int:
    """Show the samples asked for; 2 when one of them cannot be used."""
    arguments, path = _parse(argv)
    file = AnnotationFile(path, arguments.media_root)
    encoder = make_encoder(arguments)
    n_bad = 0
    with ExitStack() as stack:
        outputs = open_outputs(arguments, file, encoder, stack)
        for index in indices(arguments, file):
            try:
                sample = file[index]
                example = encoder.encode(sample)
            except AnnotationError as error:
                print(f"error: sample {index} ({error.cause}): {error}", file=sys.stderr)
                n_bad += 1
                continue
            for output in outputs:
                output.add(sample, example)
    return 2 if n_bad else 0


def _parse(argv: list[str] | None) -> tuple[PreviewArguments, str]:
    """The flags, and the annotation file's path."""
    parser = CommandParser(
        (PreviewArguments, CommonArguments),
        prog="python -m data.preview",
        description=__doc__.splitlines()[0],
        allow_abbrev=False,
    )
    parser.add_argument("annotations", metavar="FILE.jsonl", help="annotation file")
    arguments, _, rest = parser.parse_args_into_dataclasses(args=argv)
    if (arguments.index is None) != arguments.all:
        raise UserError("give either --index N or --all")
    return arguments, rest.annotations


def make_encoder(arguments: PreviewArguments) -> SampleEncoder:
    """The encoder of the checkpoint that --processor names; without a config.json, the published defaults."""
    processor, config = load_processor(arguments.processor)
    return SampleEncoder(
        ChatFormat(getattr(processor, "tokenizer", processor)),
        limits_of(config),
        choose_position_mode(config, arguments.processor),
        with_context=arguments.with_context,
        frame_times=arguments.frame_times,
        max_length=arguments.max_length,
        family=family_of(config),
    )


def indices(arguments: PreviewArguments, file: AnnotationFile) -> range:
    """The samples asked for."""
    if arguments.all:
        return range(len(file))
    if not 0 <= arguments.index < len(file):
        raise UserError(f"--index {arguments.index}: {file.path} has samples 0 to {len(file) - 1}")
    return range(arguments.index, arguments.index + 1)


def open_outputs(
    arguments: PreviewArguments, file: AnnotationFile, encoder: SampleEncoder, stack: ExitStack
) -> list[Any]:
    """A writer for each file asked for; the terminal where there is none."""
    outputs: list[Any] = []
    if arguments.json:
        outputs.append(stack.enter_context(JsonList(_open(arguments.json, stack))))
    if arguments.html:
        page = PreviewPage(_open(arguments.html, stack), encoder.chat, str(file.path), facts(arguments, encoder))
        outputs.append(stack.enter_context(page))
    return outputs or [Terminal(encoder.chat)]


def facts(arguments: PreviewArguments, encoder: SampleEncoder) -> dict[str, str]:
    """What decided how the samples look."""
    limits = encoder.limits
    return {
        "processor": arguments.processor,
        "positions": encoder.position_mode,
        "frame times": arguments.frame_times,
        "context in the query": "yes" if arguments.with_context else "no",
        "pixels a frame": f"at least {limits.min_pixels:,}",
        "pixels a clip": f"about {limits.total_pixels:,} in up to {limits.max_frames} frames",
    }


class JsonList:
    """Samples as a JSON list, written one by one."""

    def __init__(self, file: TextIO):
        self.file, self.n_written = file, 0

    def __enter__(self) -> "JsonList":
        self.file.write("[")
        return self

    def __exit__(self, *exception) -> None:
        self.file.write("\n]\n")

    def add(self, sample: Sample, example: Example) -> None:
        """Write one sample."""
        self.file.write(",\n" if self.n_written else "\n")
        json.dump(sample_json(sample, example), self.file, ensure_ascii=False)
        self.n_written += 1


def sample_json(sample: Sample, example: Example) -> dict:
    """The sample's fields for programs. Times are rounded to a microsecond."""
    grids = list(zip(example.kinds, example.grid_thw.tolist(), strict=True))
    return {
        "index": sample.index,
        "line_no": sample.line_no,
        "input_ids": example.input_ids.tolist(),
        "labels": example.labels.tolist(),
        "video_grid_thw": [grid for kind, grid in grids if kind == "video"],
        "image_grid_thw": [grid for kind, grid in grids if kind == "image"],
        "frame_times": [round(time_s, 6) for time_s in example.frame_times_s.tolist()],
        "position_ids": example.position_ids.tolist(),
        "chat_text": example.chat_text,
        "counts": example.counts,
    }


class Terminal:
    """Samples as tables on stdout."""

    def __init__(self, chat: ChatFormat):
        self.chat = chat

    def add(self, sample: Sample, example: Example) -> None:
        """Print one sample."""
        print(f"\n{sample.where}  sample {sample.index}  {_summary(example)}")
        print(f"{'turn':<10}{'tokens':>7}{'visual':>7}{'trained':>8}  text (between [ ]: trained on)")
        for turn in view_turns(example, self.chat):
            n_visual = sum(block.n_tokens for block in turn.blocks)
            for i, line in enumerate(_wrapped(turn)):
                numbers = f"{turn.role:<10}{turn.n_tokens:>7}{n_visual:>7}{turn.n_trained:>8}"
                print(f"{numbers if i == 0 else ' ' * len(numbers)}  {line}")


def _summary(example: Example) -> str:
    """Token counts, and what was left out."""
    trained = int((example.labels != IGNORED).sum())
    text = f"{len(example.input_ids)} tokens, {trained} trained on"
    left_out = {
        "dots": "words of dots dropped",
        "outside": "words outside the clip",
        "questions_outside": "questions outside the clip",
        "previous_words_cut": "words of earlier speech cut",
    }
    notes = [f"{example.counts[name]} {what}" for name, what in left_out.items() if example.counts.get(name)]
    return ", ".join([text, *notes])


def _wrapped(turn: TurnView) -> Iterator[str]:
    text = "".join(_part_text(part) for part in turn.parts)
    # Texts come from strangers: control characters could rewrite the terminal.
    text = "".join(c if c.isprintable() else "\u23ce" if c == "\n" else "\ufffd" for c in text)
    yield from (text[i : i + TEXT_WIDTH] for i in range(0, max(len(text), 1), TEXT_WIDTH))


def _part_text(part: Any) -> str:
    if isinstance(part, BlockView):
        t, h, w = part.grid_thw
        span = f" {part.times_s[0]:.2f}-{part.times_s[-1]:.2f} s" if part.times_s else ""
        return f" <{part.kind} {t}x{h}x{w}{span}> "
    return f"[{part.text}]" if part.trained else part.text


def _open(path: Path, stack: ExitStack) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(open(path, "w", encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error}); give another path") from error
