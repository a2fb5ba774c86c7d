"""Flags that the command line, the page and the server share, and what is shipped with the repository."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from data.video.frame_plan import SIZE_FACTOR
from models.checkpoint_arguments import CheckpointArguments
from models.streaming.options import DEFAULT_QUERY, CachePolicy, RetentionOptions, StreamOptions
from utils.arguments import helped
from utils.options import build_options, flags_of

ROOT = Path(__file__).resolve().parents[1]
NANO_CHECKPOINT = ROOT / "models" / "nano_checkpoint"
NANO_MATCHES = (ROOT / "demo" / "sources" / "match_1.mp4", ROOT / "demo" / "sources" / "match_2.mp4")
NANO_NOTE = (
    "This small model knows only its own drawn football world. For real videos: python demo/cli.py "
    "--model_name_or_path chenjoya/LiveCC-7B-Instruct --video FILE (16 GB of weights; a GPU)."
)
LIVE_MAX_PIXELS = 384 * SIZE_FACTOR**2  # of a frame in the live loop: 384 visual tokens for two frames


@dataclass
class SourceArguments:
    """Source of the video, and its pace."""

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
        None,
        "most pixels of a frame; default: 384*28*28, or the checkpoint's own limit where that is lower",
        ge=SIZE_FACTOR**2,
    )
    max_lag_s: float = helped(2.0, "drop frames when a step would begin this many seconds late")
    images_fps: float = helped(2.0, "images a second of a folder", gt=0, le=1000)
    stall_s: float = helped(10.0, "a camera or URL that sends nothing for so long is closed and opened again", gt=0)
    max_retries: int | None = helped(None, "how often in a row that may fail; default: try for ever")

    @property
    def path(self) -> str:
        """Source to watch: a path, or another form of data/sources/spec.py."""
        return self.video or str(NANO_MATCHES[0])


@dataclass
class LiveModelArguments(CheckpointArguments):
    """Model that speaks, and how it runs."""

    model_name_or_path: str | None = helped(None, "folder or hub id; default: the shipped models/nano_checkpoint")


@dataclass
class SpeechArguments(flags_of(StreamOptions, omit=("do_sample", "retention"))):
    """Query, choice of words, and whether the published loop is reproduced."""

    query: str | None = helped(None, f'what to do; default: "{DEFAULT_QUERY}"')
    greedy: bool = helped(True, "take the likeliest token; --greedy False samples")


@dataclass
class MemoryArguments(flags_of(RetentionOptions)):
    """Retention of the stream; `--compat livecc` keeps everything."""

    cache_policy: CachePolicy | None = helped(
        None, "window (default; bounded for ever), full (everything) or reprefill (text, frames dropped)"
    )

    def options(self, default: CachePolicy = "window") -> RetentionOptions:
        """The options of these flags. Raises UserError for limits that cannot work."""
        return build_options(RetentionOptions, asdict(self) | {"cache_policy": self.cache_policy or default})


@dataclass
class OutputArguments:
    """Files that are kept."""

    output_json: str | None = helped(
        None, "also write everything said to this JSON file, complete at every end", path="output_file"
    )


def stream_options(speech: SpeechArguments, memory: MemoryArguments) -> StreamOptions:
    """The options of these flags. Raises UserError for values that cannot work."""
    values = asdict(speech) | {"query": speech.query or DEFAULT_QUERY, "do_sample": not speech.greedy}
    del values["greedy"]
    retention = memory.options("full" if speech.compat else "window")
    return build_options(StreamOptions, values | {"retention": retention})
