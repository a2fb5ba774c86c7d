"""Make a corpus of narrated five-a-side clips: videos, annotations for training, events for scoring.

    python -m data.nano.corpus --output_dir outputs/nano/train --n_clips 1600 --seed 0

Two processes make about 12 clips a second. An interrupted run, killed or not, goes on where it stopped when the same
command is given again. The folder then holds

    clips/000000.mp4 ...     h264, 20 s
    commentary.jsonl         streaming samples with questions at their end, one per clip
    looks/000000.pack        JPEG frames, two for each second looked at
    states.jsonl             single looks: two frames -> both kits and the state of play, in a few words
    events.jsonl             per clip: kits, every line with its event; what evaluation/nano/scoring.py reads
"""

import io
import json
import multiprocessing
import os
import re
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from data.nano.commentator import SpokenLine, narrate
from data.nano.palette import SPLITS, draw_look
from data.nano.questions import draw_questions
from data.nano.render import render_window, write_video
from data.nano.states import STATE_QUERY, describe_state
from data.nano.world import MatchWindow, play_window
from data.video.frame_plan import FPS
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command
from utils.files import write_whole

QUERY = "Please describe the video."  # the streaming loop's default
AT_KICK_OFF = 0.2  # share of clips that begin with the match
ENDS_EARLY, SHORTEST_S = 0.33, 8  # share of training samples cut short, and how short
SPLIT_SEEDS = {name: number for number, name in enumerate(SPLITS)}


@dataclass
class CorpusArguments:
    """Options of a corpus."""

    output_dir: str = field(metadata={"help": "folder to fill", "path": "output_folder"})
    n_clips: int = field(default=1600, metadata={"help": "number of clips", "ge": 1})
    seed: int = field(default=0, metadata={"help": "seed of matches, looks and wordings"})
    split: str = field(
        default="train", metadata={"help": "train, tune or test: which kit pairs, pitches and wordings are used"}
    )
    duration_s: float = field(default=20.0, metadata={"help": "length of a clip in seconds", "gt": 0})
    fps: int = field(default=4, metadata={"help": "frames per second of the files; even", "ge": 2})
    width: int = field(default=140, metadata={"help": "width in pixels; the height is 3/5 of it", "ge": 2})
    crf: int = field(default=20, metadata={"help": "h264 quality: lower is better and larger", "le": 51})
    from_kick_off: bool = field(default=False, metadata={"help": "every clip begins with the match"})
    num_workers: int = field(default=0, metadata={"help": "processes; 0: one per CPU core"})


@dataclass(frozen=True)
class NarratedClip:
    """One narrated window of a match."""

    window: MatchWindow
    kits: tuple[str, str]
    lines: list[SpokenLine]  # spoken in the window from their first word on
    previous: str  # speech before the window


def size_hw(arguments: CorpusArguments) -> tuple[int, int]:
    """Height and width in pixels."""
    return arguments.width * 3 // 5, arguments.width


def make_clip(arguments: CorpusArguments, index: int, video: Path | None) -> NarratedClip:
    """Play, narrate and, if `video` is given, render the clip number `index`; the same arguments give the same clip."""
    rng = np.random.default_rng((arguments.seed, SPLIT_SEEDS[arguments.split], index))
    at_start = arguments.from_kick_off or rng.random() < AT_KICK_OFF
    skip_s = 0.0 if at_start else float(np.round(rng.uniform(2.0, 14.0), 2))
    look = draw_look(rng, arguments.split)
    window = play_window(rng, arguments.duration_s, skip_s, open_play=not at_start)
    lines = narrate([*window.earlier, *window.events], look.kits, rng, held_out=arguments.split == "test")
    if video is not None:
        frames = list(render_window(window, look, rng, size_hw(arguments), arguments.fps))
        write_video(video, frames, arguments.fps, size_hw(arguments), arguments.crf)
        write_looks(looks_path(video), frames[:: arguments.fps // FPS])
    previous = " ".join(line.text for line in lines if line.start_s < 0)
    return NarratedClip(window, look.kits, [line for line in lines if line.start_s >= 0], previous)


def stream_sample(video: str, end_s: float, query: str, words: list, previous: str = "", start_s: float = 0.0) -> list:
    """One line of an annotation file."""
    text = {"type": "text", "text": query, "previous": previous, "title": "", "category": "five-a-side"}
    return [
        {
            "role": "user",
            "content": [{"type": "video", "video": video, "video_start": start_s, "video_end": end_s}, text],
        },
        {"role": "assistant", "content": [{"type": "text_stream", "text_stream": words}]},
    ]


def commentary_sample(arguments: CorpusArguments, index: int, clip: NarratedClip, video: str) -> list:
    """A clip's commentary and questions at its end; some end early, so that any second may be asked about."""
    rng = np.random.default_rng((arguments.seed, SPLIT_SEEDS[arguments.split], index, 1))
    end_s = arguments.duration_s
    if rng.random() < ENDS_EARLY and end_s > SHORTEST_S:
        end_s = float(rng.integers(SHORTEST_S, int(end_s)))
    words = [list(word) for line in clip.lines for word in line.words if word[1] <= last_frame_s(end_s)]
    sample = stream_sample(video, end_s, QUERY, words, clip.previous)
    for question, answer in draw_questions(clip.window.at(last_frame_s(end_s)), clip.kits, rng):
        sample.append({"role": "user", "content": [{"type": "text", "text": question}]})
        sample.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return sample


def last_frame_s(end_s: float) -> float:
    """Time of the last frame that is seen before `end_s`."""
    return end_s - 1 / FPS


def looks_path(video: Path) -> Path:
    """Folder of a clip's looks, one packed file per second."""
    return video.parents[1] / "looks" / video.stem


def write_looks(folder: Path, frames: list[np.ndarray]) -> None:
    """Pack the two frames of every second (frames: RGB uint8 [H, W, 3] at 2 a second) as JPEGs, one file a second."""
    folder.mkdir(parents=True, exist_ok=True)
    for second in range(len(frames) // FPS):
        encoded = [_jpeg(frame) for frame in frames[second * FPS : (second + 1) * FPS]]
        (folder / f"{second:02d}.pack").write_bytes(b"".join(encoded))


def _jpeg(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def look_samples(clip: NarratedClip, video: Path, duration_s: float) -> list[list]:
    """One sample a second: two frames, and what is seen in the second of them."""
    samples = []
    for second in range(int(duration_s)):
        path = looks_path(video) / f"{second:02d}.pack"
        state = describe_state(clip.window.at(last_frame_s(second + 1)), clip.kits)
        question = [
            {"type": "video", "video": str(path), "pos": _frame_ends(path)},
            {"type": "text", "text": STATE_QUERY},
        ]
        answer = [{"type": "text", "text": state}]
        samples.append([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
    return samples


def _frame_ends(path: Path) -> list[int]:
    """Cumulative END offsets of the packed JPEGs: an end marker and the start of the next one stand between them."""
    packed = path.read_bytes()
    return [*(match.start() + 2 for match in re.finditer(rb"\xff\xd9(?=\xff\xd8\xff)", packed)), len(packed)]


def clip_row(arguments: CorpusArguments, index: int, video: Path) -> dict:
    """Make one clip; return its lines of the three files."""
    clip = make_clip(arguments, index, video)
    lines = [{**asdict(line.event), "text": line.text, "words": line.words} for line in clip.lines]
    end_s = arguments.duration_s
    return {
        "commentary": commentary_sample(arguments, index, clip, str(video)),
        "states": look_samples(clip, video, end_s),
        "events": {"video": str(video), "kits": clip.kits, "duration_s": end_s, "lines": lines},
    }


def _make_and_note(job: tuple[CorpusArguments, int, str]) -> int:
    """Worker: make one clip and note it down; the note appears last and whole, so it vouches for the video."""
    arguments, index, folder = job
    video = Path(folder) / "clips" / f"{index:06d}.mp4"
    row = clip_row(arguments, index, video)
    write_whole(_note_path(Path(folder), index), json.dumps(row))
    return index


def _note_path(folder: Path, index: int) -> Path:
    return folder / "notes" / f"{index:06d}.json"


def _check(arguments: CorpusArguments) -> None:
    if arguments.split not in SPLITS:
        raise UserError(f"--split {arguments.split!r}: choose one of {', '.join(SPLITS)}")
    if arguments.n_clips < 1:
        raise UserError(f"--n_clips {arguments.n_clips}: give 1 or more")
    if arguments.width % 10:
        raise UserError(f"--width {arguments.width}: h264 needs even sides of 5:3; give a multiple of 10")
    if arguments.fps < FPS or arguments.fps % FPS:
        raise UserError(f"--fps {arguments.fps}: the model samples {FPS} a second; give a multiple of {FPS}")


def _open_folder(arguments: CorpusArguments) -> Path:
    """Create the folder, or check that what it holds was made by the same arguments."""
    folder = Path(arguments.output_dir)
    for part in ("clips", "notes"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    recipe = {k: v for k, v in asdict(arguments).items() if k not in ("n_clips", "num_workers")}
    path = folder / "recipe.json"
    if path.exists() and json.loads(path.read_text()) != recipe:
        raise UserError(f"{path}: the folder was made with other arguments; delete it or give another --output_dir")
    write_whole(path, json.dumps(recipe, indent=1) + "\n")
    return folder


def _show(done: int, total: int, started: float) -> None:
    if done == total or done % 50 == 0:
        print(f"\r{done}/{total} clips, {time.monotonic() - started:.0f} s", end="", file=sys.stderr, flush=True)


def make_corpus(arguments: CorpusArguments) -> Path:
    """Make every missing clip, then write the three JSONL files; return the folder."""
    _check(arguments)
    folder = _open_folder(arguments)
    missing = [i for i in range(arguments.n_clips) if not _note_path(folder, i).exists()]
    jobs = [(arguments, index, str(folder)) for index in missing]
    started = time.monotonic()
    workers = min(arguments.num_workers or os.cpu_count() or 1, max(len(jobs), 1))
    if workers == 1:
        for done, job in enumerate(jobs, 1):
            _make_and_note(job)
            _show(done, len(jobs), started)
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            for done, _ in enumerate(pool.imap_unordered(_make_and_note, jobs, chunksize=4), 1):
                _show(done, len(jobs), started)
    if jobs:
        print(file=sys.stderr)
    _write_files(folder, arguments.n_clips)
    return folder


def _write_files(folder: Path, n_clips: int) -> None:
    rows = [json.loads(_note_path(folder, i).read_text()) for i in range(n_clips)]
    for name in ("commentary", "states", "events"):
        samples = [sample for row in rows for sample in (row[name] if name == "states" else [row[name]])]
        write_whole(folder / f"{name}.jsonl", "".join(json.dumps(sample) + "\n" for sample in samples))


def main() -> None:
    (arguments,) = parse_arguments(CorpusArguments, description=__doc__)
    folder = make_corpus(arguments)
    print(f"{arguments.n_clips} clips in {folder}")


if __name__ == "__main__":
    run_command(main)
