"""How fast a clip becomes model input: this repository's reader against the published recipe.

    python dev/bench/bench_data.py                      (--clip_s 10 --repeats 1 for a look)

Both read the same 60 s h264 clips (1280x720 and 640x360, 30 fps, B-frames, made here with x264's defaults),
take the same 120 frames at the default limits, and run on one thread, by turns in one process:

    published    decord decodes, torchvision resizes through float32, transformers' Qwen2-VL video processor
                 normalises in float32 and cuts patches; its second resize is switched off, in its favour. The steps
                 are those of LiveCC's published code, put together here
    ours         data.video.clip.read_clip and data.samples.patches.cut_patches, normalised to float32: the same numbers
    ours, bytes  the same without normalising, as training reads it (the model's device normalises): less work than
                 the other two, so its row has no ratio

Hardware: one CPU core, 4 GB of memory, no GPU. Time: about 8 minutes, 4 of them to make the clips, kept in
--folder. Expected: at least 2.0 times the samples a second at 1280x720 and 2.5 times at 640x360; the
measured table is in dev/benchmarks/data.md. Seconds are CPU seconds: other work on the machine disturbs them little.
"""

import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

if __name__ == "__main__":  # runs from anywhere without PYTHONPATH
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import av
import numpy as np
import torch

from data.samples.patches import cut_patches
from data.video.clip import VideoFile, read_clip
from data.video.frame_plan import VideoLimits, plan_stream
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command

SIZES = {"1280x720": (720, 1280), "640x360": (360, 640)}
FPS = 30
BYTES = "ours, bytes"
LIBRARIES = ("decord", "torch", "torchvision", "transformers", "av")
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])  # CLIP's, as Qwen2-VL normalises
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])


@dataclass
class BenchArguments:
    """What is measured, and how often."""

    clip_s: int = field(default=60, metadata={"help": "length of the clips in seconds"})
    repeats: int = field(default=3, metadata={"help": "how often each recipe reads each clip"})
    gops: list[int] = field(default_factory=lambda: [250, 60], metadata={"help": "frames between keyframes"})
    folder: str | None = field(default=None, metadata={"help": "where clips are kept; default: thrown away"})
    clips: list[str] | None = field(default=None, metadata={"help": "your own videos in place of made ones"})


def main() -> None:
    """Make the clips, read each by turns, print a row per recipe."""
    (arguments,) = parse_arguments(BenchArguments, description=__doc__.partition("\n")[0])
    torch.set_num_threads(1)
    recipes = {"published": _published_recipe(), "ours": read_normalised, BYTES: read_patches}
    with tempfile.TemporaryDirectory() as temporary:
        clips = _clips(arguments, Path(arguments.folder or temporary))
        print(", ".join(f"{name} {version(name)}" for name in LIBRARIES))
        columns = f"{'s':>10}{'samples/s':>10}{'ratio':>7}"
        print(f"{'':40}{'median':>27}{'fastest':>27}")
        print(f"{'clip':28}{'recipe':12}{columns}{columns}", flush=True)
        for name, path in clips.items():
            _compare_outputs(recipes, path)
            _print_rows(name, _measure(recipes, path, arguments.repeats))


def read_patches(path: Path) -> torch.Tensor:
    """Read a clip as training does: uint8 patches [P, 1176]."""
    return cut_patches(read_clip(path, limits=VideoLimits()).frames)[0]


def read_normalised(path: Path) -> torch.Tensor:
    """Read a clip and normalise it here: float32 patches [P, 1176], as the library's processor gives them."""
    patches = read_patches(path).float().view(-1, 3, 2 * 14 * 14)
    scale, shift = 1 / (255 * STD), MEAN / STD
    return patches.mul_(scale[:, None]).sub_(shift[:, None]).view(len(patches), -1)


def _published_recipe() -> Callable[[Path], torch.Tensor]:
    """Return the published recipe: a function from a path to float32 patches [P, 1176]."""
    try:
        import decord
    except ImportError as error:
        raise UserError("decord is not installed: pip install decord, which only this benchmark needs") from error
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as first_interface
    from transformers import Qwen2VLVideoProcessor

    logging.getLogger("transformers").setLevel(logging.ERROR)  # it warns of a resize that is off here
    processor = Qwen2VLVideoProcessor()

    def read(path: Path) -> torch.Tensor:
        reader = decord.VideoReader(str(path), num_threads=1)
        indices, size_hw = _chosen(path)
        frames = torch.from_numpy(reader.get_batch(indices).asnumpy()).permute(0, 3, 1, 2)
        resized = first_interface.resize(frames, list(size_hw), InterpolationMode.BICUBIC, antialias=True)
        batch = processor(videos=[resized], do_resize=False, do_sample_frames=False, return_tensors="pt")
        return batch["pixel_values_videos"]

    return read


_CHOSEN: dict[Path, tuple[list[int], tuple[int, int]]] = {}


def _chosen(path: Path) -> tuple[list[int], tuple[int, int]]:
    """Return the frames and the size that both take; found once, so the published recipe gets them free."""
    if path not in _CHOSEN:
        limits = VideoLimits()
        with VideoFile(path) as video:
            plan = plan_stream(video.table, None, None, limits)
            _CHOSEN[path] = plan.indices.tolist(), limits.size_hw(*video.size_hw, len(plan))
    return _CHOSEN[path]


def _compare_outputs(recipes: dict[str, Callable], path: Path) -> None:
    """Check, and so warm up, that the recipes give the same numbers: 1 grey level apart at most."""
    published, ours = recipes["published"](path), recipes["ours"](path)
    largest = float((published - ours).abs().max() * 255 * STD.max())
    if published.shape != ours.shape or largest > 1.5:
        raise UserError(f"{path}: outputs differ: {published.shape} and {ours.shape}, by {largest:.1f} grey levels")


def _measure(recipes: dict[str, Callable], path: Path, repeats: int) -> dict[str, list[float]]:
    """Return CPU seconds per recipe and repeat; the recipes take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in recipes}
    for _ in range(repeats):
        for name, read in recipes.items():
            start = time.process_time()
            read(path)
            seconds[name].append(time.process_time() - start)
    return seconds


def _print_rows(clip: str, seconds: dict[str, list[float]]) -> None:
    """Print medians and, less disturbed by other work, the fastest repeats; a ratio where the work is equal."""
    for name, values in seconds.items():
        row = f"{clip:28}{name:12}"
        for pick in (statistics.median, min):
            taken, base = pick(values), pick(seconds["published"])
            ratio = "" if name == BYTES else f"{base / taken:.2f}"
            row += f"{taken:10.2f}{1 / taken:10.3f}{ratio:>7}"
        print(row, flush=True)


def _clips(arguments: BenchArguments, folder: Path) -> dict[str, Path]:
    """Return the clips by name, made where they are not in the folder yet."""
    if arguments.clips:
        return {Path(path).name[:27]: Path(path) for path in arguments.clips}
    folder.mkdir(parents=True, exist_ok=True)
    clips = {}
    for size, size_hw in SIZES.items():
        for gop in arguments.gops:
            path = folder / f"{size}_{arguments.clip_s}s_gop{gop}.mp4"
            if not path.exists():
                make_clip(path, size_hw, arguments.clip_s * FPS, gop)
            clips[f"{size}, keyframes {gop}"] = path
    return clips


def make_clip(path: Path, size_hw: tuple[int, int], n_frames: int, gop: int) -> None:
    """Write textured motion with x264's defaults: a panning camera, objects, grain, a cut every 12 s."""
    partial = path.with_suffix(".partial.mp4")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": str(gop), "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = *size_hw, "yuv420p"
        for rgb in _scene(size_hw, n_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode())
    partial.replace(path)


def _scene(size_hw: tuple[int, int], n_frames: int):
    """Yield RGB frames uint8 [H, W, 3] of a made scene; the same at every run."""
    height, width = size_hw
    random = np.random.default_rng(0)
    grain = random.normal(0, 3, (height + 64, width + 64, 1)).astype(np.float32)
    for number in range(n_frames):
        if number % (12 * FPS) == 0:
            ground = _texture(random, height + 128, width + 256)
            objects = [(_texture(random, height // 6, width // 16), *random.random(4)) for _ in range(12)]
        x = int(128 + 120 * np.sin(number / 70))
        y = int(64 + 30 * np.sin(number / 41))
        frame = ground[y : y + height, x : x + width].copy()
        for texture, u, v, speed, phase in objects:
            h, w = texture.shape[:2]
            top = int((height - h) * (0.5 + 0.5 * np.sin(number * speed / 30 + 7 * phase)) * u)
            left = int((width - w) * (0.5 + 0.5 * np.sin(number * (0.3 + speed) / 40 + 9 * v)))
            frame[top : top + h, left : left + w] = texture
        dy, dx = random.integers(0, 64, 2)
        frame += grain[dy : dy + height, dx : dx + width]
        yield frame.clip(0, 255).astype(np.uint8)


def _texture(random: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Return noise on several scales, float32 [H, W, 3] in grey levels, like grass, crowd and boards."""
    image = np.full((height, width, 3), 128, np.float32)
    for scale, strength in ((4, 10), (16, 18), (64, 25)):
        coarse = random.normal(0, strength, (1, 3, height // scale + 2, width // scale + 2)).astype(np.float32)
        fine = torch.nn.functional.interpolate(torch.from_numpy(coarse), (height, width), mode="bicubic")
        image += fine[0].permute(1, 2, 0).numpy()
    return image


if __name__ == "__main__":
    run_command(main)
