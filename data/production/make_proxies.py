"""A small video for each clip: the frames that training takes of it, at training's size, with their times.

    python -m data.production.make_proxies clips.jsonl kept.jsonl --folder proxies

Training takes 2 frames a second, on a grid that begins at the clip's first frame. A proxy holds exactly these frames at
these times of the original's clock, so the clip's window and its words stay as they are and only the path changes;
each proxy is read back before it is used, and a clip whose times an MP4 file cannot hold keeps its own video and gets
the flag "no_proxy". A proxy is one clip's and not one video's: the grids of two clips of a video do not fall together.

Proxies are MPEG-4 part 2: it reads in about half the time of H.264 of nearly the same quality, in 1 to 1.4 times the
disk. `--codec h264` is for small files, for colours at full size, and for players that know H.264 alone.

The limits must be training's (VIDEO_MIN_PIXELS, VIDEO_MAX_PIXELS, FPS_MAX_FRAMES); the defaults are those of
scripts/pt_local.sh. Proxies are for `--frame_times grid`, training's default. They have no sound: filters that listen
come before. Hardware: one CPU core per worker. How much faster they decode, and what that costs in quality and disk, is
in dev/benchmarks/production.md; dev/bench/bench_proxies.py measures it.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np

from data.production.record import Record
from data.production.stage import RecordFailed, Stage
from data.video.container import VideoError
from data.video.frame_plan import FPS, Clip, FrameTable, VideoLimits, exact_seconds, plan_stream
from utils.errors import UserError
from utils.fingerprint import fingerprint

FLAG = "no_proxy"
CODECS = {"mpeg4": ("420",), "h264": ("420", "444")}  # and the chroma that each can hold
LAMBDA = 118  # FFmpeg's unit of quality (FF_QP2LAMBDA), for one step of the quantizer
MAX_TIMESCALE = 2**31 - 1  # ticks a second that an MP4 file can state


@dataclass
class ProxyOptions:
    """Where the proxies go, and what they are."""

    folder: str = field(default="proxies", metadata={"help": "folder of the proxies, as the training file names it"})
    codec: str = field(
        default="mpeg4", metadata={"help": "mpeg4, fastest to read; or h264: smaller, and plays anywhere"}
    )
    quantizer: int = field(
        default=1, metadata={"help": "mpeg4's quality, 1 to 31: lower is better and larger", "ge": 1, "le": 31}
    )
    crf: int = field(default=23, metadata={"help": "h264's quality, 0 to 51: lower is better and larger", "le": 51})
    gop: int = field(default=8, metadata={"help": "frames from one key frame to the next; 1: key frames only", "ge": 1})
    chroma: str = field(default="420", metadata={"help": "420; or 444, h264 only: colours at full size, slower"})
    min_pixels: int = field(default=78400, metadata={"help": "training's VIDEO_MIN_PIXELS", "ge": 1})
    total_pixels: int = field(default=19267584, metadata={"help": "training's VIDEO_MAX_PIXELS", "ge": 1})
    max_frames: int = field(default=480, metadata={"help": "training's FPS_MAX_FRAMES", "ge": 2})

    @property
    def limits(self) -> VideoLimits:
        """As training reads videos."""
        return VideoLimits(self.min_pixels, self.total_pixels, self.max_frames)


class MakeProxies(Stage):
    """Points a clip, and its conversation where it has one, at a proxy; extra["proxy_of"] keeps the video's path."""

    name, version, Options = "make_proxies", 3, ProxyOptions
    batch_size, gpus, cpus = 16, 0.0, 1

    def check(self) -> None:
        options = self.options
        if options.codec not in CODECS:
            raise UserError(f"--codec {options.codec}: choose {' or '.join(CODECS)}")
        if options.chroma not in CODECS[options.codec]:
            chromas = " or ".join(CODECS[options.codec])
            raise UserError(
                f"--codec {options.codec} --chroma {options.chroma}: choose {chromas} (444 is h264's alone)"
            )
        if not (options.gop >= 1 and 1 <= options.quantizer <= 31 and 0 <= options.crf <= 51):
            raise UserError(
                f"--gop {options.gop} --quantizer {options.quantizer} --crf {options.crf}: at least 1, 1 to 31, 0 to 51"
            )
        if min(options.min_pixels, options.total_pixels, options.max_frames) < 1:
            raise UserError("--min_pixels, --total_pixels and --max_frames must be at least 1")

    def expand(self, record: Record) -> list[Record]:
        try:
            path = self._proxy(record)
        except VideoError as error:
            raise RecordFailed("broken_video", str(error)) from error
        if path is None:
            record.flags.append(FLAG)
            return [record]
        record.extra["proxy_of"], record.video = record.video, str(path)
        if record.conversation:
            record.conversation = [_repointed(message, str(path)) for message in record.conversation]
        return [record]

    def _proxy(self, record: Record) -> Path | None:
        """The clip's proxy, made where it is not there; None where it would not give the same frames."""
        from data.video.clip import VideoFile

        with VideoFile(record.video) as video:
            path = Path(self.options.folder) / self._file_name(record)
            if path.exists():
                return path
            clip = video.clip(record.start_s, record.end_s, limits=self.options.limits)
            times = exact_times(clip, video.table, record.start_s)
        partial = path.with_name(f".{os.getpid()}.{path.name}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            written = write_proxy(partial, clip, times, self.options)
            if not written or not self._gives_the_same(partial, record, clip):
                return None
            os.replace(partial, path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error}); free some space or give another --folder") from error
        finally:
            partial.unlink(missing_ok=True)
        return path

    def _file_name(self, record: Record) -> str:
        """A name from the record's id, and a digest of all that the proxy depends on."""
        options = {name: value for name, value in dataclasses.asdict(self.options).items() if name != "folder"}
        made_of = [fingerprint(record.video), record.start_s, record.end_s, options, self.version]
        digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]
        return f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', record.id)[-80:]}-{digest}.mp4"

    def _gives_the_same(self, path: Path, record: Record, clip: Clip) -> bool:
        """Whether a proxy's window takes all of its frames, at the clip's times and size."""
        from data.video.clip import VideoFile

        with VideoFile(path) as proxy:
            try:
                plan = plan_stream(proxy.table, record.start_s, record.end_s, self.options.limits)
            except ValueError:
                return False
            frames_hw = tuple(clip.frames.shape[2:])
            n_frames, n_ahead = len(clip.plan) - clip.plan.n_padded, int(clip.times_s[0] > 0)
            return (
                len(proxy.table) == n_ahead + n_frames
                and np.array_equal(plan.times_s, clip.times_s)
                and np.array_equal(plan.indices, n_ahead + np.arange(len(plan)).clip(max=n_frames - 1))
                and proxy.size_hw == frames_hw
                and self.options.limits.size_hw(*proxy.size_hw, len(plan)) == frames_hw
            )


def exact_times(clip: Clip, table: FrameTable, start_s: float | None) -> list[Fraction]:
    """The times of a clip's frames in seconds, without the frame that makes their number even."""
    grid = int(table.start_ticks[0]) * table.time_base if start_s is None else exact_seconds(start_s)
    first = grid + Fraction(round((clip.times_s[0] - float(grid)) * FPS), FPS)
    return [first + Fraction(k, FPS) for k in range(len(clip.plan) - clip.plan.n_padded)]


def write_proxy(path: Path, clip: Clip, times: list[Fraction], options: ProxyOptions) -> bool:
    """Write frames as MPEG-4 part 2 or H.264 in an MP4 file; False where it cannot hold their times.

    The first frame is shown from 0 on too: a file's clock begins with its first picture.
    """
    import av

    timescale = math.lcm(2, *(time.denominator for time in times))
    if timescale > MAX_TIMESCALE or times[0] < 0:
        return False
    tick = Fraction(1, timescale)
    # Fresh films start late by an edit list, in the film's ticks: 1000 a second unless told otherwise.
    with av.open(str(path.absolute()), "w", format="mp4", options={"movie_timescale": str(timescale)}) as container:
        encoder, settings = _encoder(options)
        stream = container.add_stream(encoder, rate=FPS, options={**settings, "bf": "0", "threads": "1"})
        stream.height, stream.width = clip.frames.shape[2:]
        stream.pix_fmt = f"yuv{options.chroma}p"
        stream.time_base = tick
        # Without B frames packets come in the frames' order. They get their times here: MPEG-4 itself cannot state
        # finer ones than 1/65535 s.
        frames = clip.frames[: len(times)]
        if times[0] > 0:
            times, frames = [Fraction(0), *times], [frames[0], *frames]
        exact = iter(times)
        for k, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            _mux(container, stream.encode(frame), exact, tick)
        _mux(container, stream.encode(), exact, tick)
    return True


def _encoder(options: ProxyOptions) -> tuple[str, dict[str, str]]:
    """FFmpeg's name of an encoder, and its settings."""
    if options.codec == "mpeg4":
        step, quality = str(options.quantizer), str(options.quantizer * LAMBDA)
        settings = {"flags": "+qscale", "global_quality": quality, "qmin": step, "qmax": step}
        return "mpeg4", {**settings, "g": str(options.gop)}
    # fastdecode leaves out CABAC and deblocking: a tenth larger, and nearly twice as fast to read.
    settings = {"crf": str(options.crf), "tune": "fastdecode", "preset": "medium"}
    return "libx264", {**settings, "g": str(options.gop)}


def _mux(container, packets, exact: Iterator[Fraction], tick: Fraction) -> None:
    for packet in packets:
        packet.time_base = tick
        packet.pts = packet.dts = int(next(exact) / tick)
        packet.duration = int(Fraction(1, FPS) / tick)
        container.mux(packet)


def _repointed(message: dict, path: str) -> dict:
    """A message whose video is another file."""
    if not isinstance(message.get("content"), list):
        return message
    content = [{**part, "video": path} if part.get("type") == "video" else part for part in message["content"]]
    return {**message, "content": content}


STAGE = MakeProxies

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
