"""Comment a video live in the terminal, and answer questions typed while it plays.

    python demo/cli.py                                     the shipped match with the shipped nano model
    python demo/cli.py --model_name_or_path chenjoya/LiveCC-7B-Instruct --video FILE.mp4
    python demo/cli.py --as_fast_as_possible | head        piped: one JSON record a line
    python demo/cli.py --video camera:0                    also a URL, a folder of images, or - for standard input
    echo "What is the score?" | python demo/cli.py --as_fast_as_possible

Hardware: two CPU cores for the nano model, a 24 GB GPU for a 7B model in bfloat16. By default it takes as
long as the video plays. Exit status: 0 at the end or after /quit, 2 for bad input, 130 after Ctrl-C.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import logging
from dataclasses import asdict, dataclass, replace
from typing import Literal

from data.sources.reconnection import Reconnection
from data.sources.spec import check_frame_times, parse_spec
from demo.terminal import claimed_stdout, open_view
from models.checkpoint_arguments import CheckpointArguments
from models.streaming.options import DEFAULT_QUERY, CachePolicy, RetentionOptions, StreamOptions
from utils.arguments import helped, parse_arguments
from utils.errors import UserError, run_command
from utils.options import build_options, flags_of

ROOT = Path(__file__).resolve().parents[1]
NANO_CHECKPOINT = ROOT / "models" / "nano_checkpoint"
NANO_MATCHES = (ROOT / "demo" / "sources" / "match_1.mp4", ROOT / "demo" / "sources" / "match_2.mp4")
NANO_NOTE = (
    "This small model knows only its own drawn football world. For real videos: python demo/cli.py "
    "--model_name_or_path chenjoya/LiveCC-7B-Instruct --video FILE (16 GB of weights; a GPU)."
)
LIVE_MAX_PIXELS = 384 * 28 * 28  # of a frame in the live loop: 384 visual tokens for two frames


@dataclass
class SourceArguments:
    """What is watched, and how fast."""

    video: str | None = helped(
        None,
        "video file, folder of images, camera:0, rtsp:// or http(s):// URL, - for standard input, or raw:640x480@30 "
        "for bare frames there; default: the shipped match demo/sources/match_1.mp4",
    )
    realtime: bool = helped(True, "speak each step when its last second has played")
    as_fast_as_possible: bool = helped(
        False, "do not wait for the video's clock; no frame of a file, folder or pipe is dropped"
    )
    frame_times: Literal["grid", "end32"] | None = helped(
        None,
        "which frame stands for a time: the one on screen (grid, default) or the published choice (end32)",
    )
    max_pixels: int | None = helped(
        None, "most pixels of a frame; default: 384*28*28, or the checkpoint's own limit where that is lower"
    )
    max_lag_s: float = helped(2.0, "drop frames when a step would begin this many seconds late")
    images_fps: float = helped(2.0, "images a second of a folder")
    stall_s: float = helped(10.0, "a camera or URL that sends nothing for so long is closed and opened again")
    max_retries: int | None = helped(None, "how often in a row that may fail; default: try for ever")

    @property
    def path(self) -> str:
        """What is watched: a path, or another form of data/sources/spec.py."""
        return self.video or str(NANO_MATCHES[0])


@dataclass
class ModelArguments(CheckpointArguments):
    """Which model speaks, and how it runs."""

    model_name_or_path: str | None = helped(None, "folder or hub id; default: the shipped models/nano_checkpoint")


@dataclass
class SpeechArguments(flags_of(StreamOptions, omit=("do_sample", "retention"))):
    """What is asked for, how words are chosen, and whether the published loop is reproduced."""

    query: str | None = helped(None, f'what to do; default: "{DEFAULT_QUERY}"')
    greedy: bool = helped(True, "take the likeliest token; --greedy False samples")


@dataclass
class MemoryArguments(flags_of(RetentionOptions)):
    """What the stream remembers; `--compat livecc` keeps everything."""

    cache_policy: CachePolicy | None = helped(
        None, "window (default; bounded for ever), full (everything) or reprefill (text, frames dropped)"
    )

    def options(self, default: CachePolicy = "window") -> RetentionOptions:
        """The options of these flags. Raises UserError for limits that cannot work."""
        return build_options(RetentionOptions, asdict(self) | {"cache_policy": self.cache_policy or default})


@dataclass
class OutputArguments:
    """What is kept."""

    output_json: str | None = helped(None, "also write everything said to this JSON file, complete at every end")


def main() -> int:
    """Run the command; return its exit status."""
    source, model, speech, memory, output = parse_arguments(
        SourceArguments,
        ModelArguments,
        SpeechArguments,
        MemoryArguments,
        OutputArguments,
        description=__doc__.split("\n")[0],
    )
    check(source, model, speech, memory, output)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    logging.getLogger("models").setLevel(logging.INFO)
    with claimed_stdout() as stdout:
        # torch and transformers load only now: --help and a mistyped flag need not wait for them.
        from demo.viewing import Viewing

        checkpoint, options, frames, header = open_stream(source, model, speech, memory)
        # Where stdin carries the video, nobody reads questions from it.
        stdin = None if parse_spec(source.path).kind == "pipe" else sys.stdin
        with frames, open_view(stdin, stdout) as view:
            viewing = Viewing(checkpoint, options, view, header, output.output_json)
            return viewing.run(frames, header["realtime"], source.max_lag_s)


def check(
    source: SourceArguments,
    model: ModelArguments,
    speech: SpeechArguments,
    memory: MemoryArguments,
    output: OutputArguments,
) -> None:
    """Raise UserError for values that cannot work, before anything is loaded."""
    spec = parse_spec(source.path)
    check_frame_times(spec, source.frame_times)
    if spec.kind == "pipe" and sys.stdin.isatty():
        raise UserError(f"--video {source.path} reads standard input, which is this terminal: pipe a video into it")
    if not 0 < source.images_fps <= 1000:
        raise UserError(f"--images_fps {source.images_fps}: must be above 0 and at most 1000")
    Reconnection(stall_s=source.stall_s, max_retries=source.max_retries)
    if speech.query is not None and not speech.query.strip():
        raise UserError("--query is empty: say what the commentary should be, or leave the flag out")
    if source.max_pixels is not None and source.max_pixels < 28 * 28:
        raise UserError(f"--max_pixels {source.max_pixels}: one visual token takes 28*28 = 784 pixels at least")
    if speech.compat and memory.cache_policy not in (None, "full"):
        raise UserError(f"--compat {speech.compat} keeps everything; leave --cache_policy {memory.cache_policy} out")
    stream_options(speech, memory)
    if output.output_json and not Path(output.output_json).absolute().parent.is_dir():
        raise UserError(f"--output_json {output.output_json}: its folder is not there; make it first")


def stream_options(speech: SpeechArguments, memory: MemoryArguments) -> StreamOptions:
    """The options of these flags. Raises UserError for values that cannot work."""
    values = asdict(speech) | {"query": speech.query or DEFAULT_QUERY, "do_sample": not speech.greedy}
    del values["greedy"]
    retention = memory.options("full" if speech.compat else "window")
    return build_options(StreamOptions, values | {"retention": retention})


def open_stream(source: SourceArguments, model: ModelArguments, speech: SpeechArguments, memory: MemoryArguments):
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
    """What a person should know beforehand."""
    from_pipe = "Standard input carries the video, so no questions can be typed; Ctrl-C ends."
    return [NANO_NOTE] * (Path(model) == NANO_CHECKPOINT) + [from_pipe] * (kind == "pipe")


if __name__ == "__main__":
    run_command(main)
