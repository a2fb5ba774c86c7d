"""Comment a video live in the terminal, and answer questions typed while it plays.

    python demo/cli.py                                     the shipped match with the shipped nano model
    python demo/cli.py --model_name_or_path chenjoya/LiveCC-7B-Instruct --video FILE.mp4
    python demo/cli.py --as_fast_as_possible | head        piped: one JSON record a line
    python demo/cli.py --video camera:0                    also a URL, a folder of images, or - for standard input
    echo "What is the score?" | python demo/cli.py --as_fast_as_possible

Hardware: two CPU cores for the nano model, a 24 GB GPU for a 7B model in bfloat16. By default it takes as
long as the video plays. Exit status: 0 at the end or after /quit, 2 for bad input, 130 after Ctrl-C,
143 after SIGTERM, 129 when the terminal was closed.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import logging
from dataclasses import replace

from data.sources.reconnection import Reconnection
from data.sources.spec import check_frame_times, parse_spec
from demo.arguments import (
    LIVE_MAX_PIXELS,
    NANO_CHECKPOINT,
    NANO_NOTE,
    LiveModelArguments,
    MemoryArguments,
    OutputArguments,
    SourceArguments,
    SpeechArguments,
    stream_options,
)
from demo.terminal import claimed_stdout, open_view
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command
from utils.stop_signals import raise_on_stop


def main() -> int:
    """Run the command; return its exit status."""
    source, model, speech, memory, output = parse_arguments(
        SourceArguments,
        LiveModelArguments,
        SpeechArguments,
        MemoryArguments,
        OutputArguments,
        description=__doc__.split("\n")[0],
    )
    check_flags(source, model, speech, memory, output)
    raise_on_stop()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    for folder in ("data", "models"):
        logging.getLogger(folder).setLevel(logging.INFO)
    with claimed_stdout() as stdout:
        # torch and transformers load only now: --help and a mistyped flag need not wait for them.
        from demo.viewing import Viewing

        checkpoint, options, frames, header = open_stream(source, model, speech, memory)
        # Where stdin carries the video, nobody reads questions from it.
        stdin = None if parse_spec(source.path).kind == "pipe" else sys.stdin
        with frames, open_view(stdin, stdout) as view:
            viewing = Viewing(checkpoint, options, view, header, output.output_json)
            return viewing.run(frames, header["realtime"], source.max_lag_s)


def check_flags(
    source: SourceArguments,
    model: LiveModelArguments,
    speech: SpeechArguments,
    memory: MemoryArguments,
    output: OutputArguments,
) -> None:
    """Raise UserError for values that cannot work, before anything is loaded."""
    spec = parse_spec(source.path)
    check_frame_times(spec, source.frame_times)
    if spec.kind == "pipe" and sys.stdin.isatty():
        raise UserError(f"--video {source.path} reads standard input, which is this terminal: pipe a video into it")
    Reconnection(stall_s=source.stall_s, max_retries=source.max_retries)
    if speech.query is not None and not speech.query.strip():
        raise UserError("--query is empty: say what the commentary should be, or leave the flag out")
    if speech.compat and memory.cache_policy not in (None, "full"):
        raise UserError(f"--compat {speech.compat} keeps everything; leave --cache_policy {memory.cache_policy} out")
    stream_options(speech, memory)
    if output.output_json and not Path(output.output_json).absolute().parent.is_dir():
        raise UserError(f"--output_json {output.output_json}: its folder is not there; make it first")


def open_stream(source: SourceArguments, model: LiveModelArguments, speech: SpeechArguments, memory: MemoryArguments):
    """Load the model and name the source: (checkpoint, options, source of timed frames, header record)."""
    import transformers

    from data.sources.catalogue import open_source
    from models.load import load_checkpoint
    from models.streaming.threads import use_threads

    transformers.utils.logging.disable_progress_bar()
    checkpoint = load_checkpoint(
        model.model_name_or_path or NANO_CHECKPOINT, device=model.device, dtype=model.dtype,
        position_mode=model.position_mode or speech.compat,
    )  # fmt: skip
    use_threads(checkpoint.model)
    options = stream_options(speech, memory)
    spec = parse_spec(source.path)
    frame_times = source.frame_times or ("end32" if speech.compat and spec.kind == "file" else "grid")
    most = max(checkpoint.limits.total_pixels, checkpoint.limits.min_pixels)
    limits = replace(checkpoint.limits, max_pixels=source.max_pixels or min(LIVE_MAX_PIXELS, most))
    frames = open_source(
        spec, limits=limits, frame_times=frame_times, float_resize=speech.compat is not None,
        images_fps=source.images_fps,
        reconnection=Reconnection(stall_s=source.stall_s, max_retries=source.max_retries),
    )  # fmt: skip
    header = {
        "model": checkpoint.name, "video": frames.name, "query": options.query, "frame_times": frame_times,
        "position_mode": checkpoint.position_mode, "cache_policy": options.retention.cache_policy,
        "compat": speech.compat,
        "device": str(checkpoint.device), "dtype": str(checkpoint.model.dtype).removeprefix("torch."),
        "realtime": source.realtime and not source.as_fast_as_possible,
        "note": " ".join(notes(checkpoint.name, spec.kind)) or None,
    }  # fmt: skip
    return checkpoint, options, frames, header


def notes(model: str, kind: str) -> list[str]:
    """Notes for a person to read beforehand."""
    found = [NANO_NOTE] if Path(model) == NANO_CHECKPOINT else []
    if kind == "pipe":
        found.append("Standard input carries the video, so no questions can be typed; Ctrl-C ends.")
    return found


if __name__ == "__main__":
    run_command(main)
