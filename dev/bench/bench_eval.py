"""Three questions a video, read once and continued, against one pass for each question.

    python dev/bench/bench_eval.py                               (--n_videos 2 --visual_tokens 800 for a look)
    python dev/bench/bench_eval.py --model_name_or_path Qwen/Qwen2-VL-7B-Instruct --visual_tokens 24576      on a GPU

Both sides are the same predictor: one is given the questions of a video together, the other one at a time, so that it
decodes, encodes and prefills for each, as the published evaluation does. They take turns, video by video. Questions are
asked without subtitles, and then in both settings together. Answers must be the same, or the exit status is 1.

Hardware: a CPU for the nano model or a shape of random weights, a GPU for the 24k visual tokens of a real one. Time:
about 3 minutes. Result: a Markdown table, ratios of whole wall seconds.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

if __name__ == "__main__":  # runs from anywhere without PYTHONPATH
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from tqdm import tqdm

from data.video.clip import read_clip
from data.video.frame_plan import SIZE_FACTOR
from dev.bench.parts.shapes import TEXT, random_checkpoint
from evaluation.predictors.checkpoint import CheckpointPredictor
from evaluation.predictors.predictor_arguments import model_id
from evaluation.tasks.item import Answer, Choice, ClipPlan, Item
from models.load import Checkpoint, load_checkpoint, preferred_device
from models.streaming.threads import use_threads
from utils.arguments import parse_arguments
from utils.errors import run_command

ROOT = Path(__file__).resolve().parents[2]
VIDEOS = [ROOT / "demo" / "sources" / name for name in ("match_1.mp4", "match_2.mp4")]
QUESTIONS = ("Which team scores first?", "Where does the match begin?", "How many goals are there?")
OPTIONS = ("A", "B", "C", "D")
SUBTITLE = "and it is played across the middle by the side in possession, "


@dataclass
class EvalArguments:
    """Which model is asked about how much."""

    model_name_or_path: str = field(
        default=str(ROOT / "models" / "nano_checkpoint"),
        metadata={"help": f"checkpoint, or a shape with random weights: {', '.join(TEXT)}"},
    )
    device: str | None = field(default=None, metadata={"help": "cuda, mps or cpu; default: the fastest here"})
    n_videos: int = field(default=6, metadata={"help": "videos on each side"})
    visual_tokens: int = field(default=3072, metadata={"help": "of a video, at most; VideoMME's protocol has 24576"})
    subtitle_words: int = field(default=400, metadata={"help": "words of the subtitles"})


def main() -> int:
    """Run both sides and print the table; 1 where answers differ."""
    (arguments,) = parse_arguments(EvalArguments, description=__doc__.splitlines()[0])
    checkpoint = load(arguments)
    use_threads(checkpoint.model)
    predictor = CheckpointPredictor(checkpoint, model_id(arguments.model_name_or_path), "not kept")
    print(
        f"{predictor.name} on {checkpoint.device}, {os.cpu_count()} cores, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f} before\n"
    )
    print("| asked of each video | visual tokens | shared, s | one pass each, s | ratio | same answers |")
    print("|---|---|---|---|---|---|")
    all_same = True
    for name, settings in (("3 questions", ("plain",)), ("3 questions, both settings", ("plain", "subtitled"))):
        shared_s, alone_s, same = compare(predictor, arguments, settings)
        all_same = all_same and same
        print(
            f"| {name} | {visual_tokens(predictor)} | {shared_s:.2f} | {alone_s:.2f} | {alone_s / shared_s:.2f} | "
            f"{'yes' if same else 'NO'} |",
            flush=True,
        )
    print(f"\nload {os.getloadavg()[0]:.1f} after")
    return 0 if all_same else 1


def load(arguments: EvalArguments) -> Checkpoint:
    """The model, its clips limited to so many visual tokens."""
    if arguments.model_name_or_path in TEXT:
        device = torch.device(arguments.device) if arguments.device else preferred_device()
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        checkpoint = random_checkpoint(arguments.model_name_or_path, device, dtype)
    else:
        checkpoint = load_checkpoint(arguments.model_name_or_path, device=arguments.device)
    # A visual token covers two frames of 28 x 28 pixels, and the limit counts the pixels of one in two frames.
    total = arguments.visual_tokens * SIZE_FACTOR**2
    checkpoint.limits = replace(checkpoint.limits, total_pixels=total, min_pixels=4 * SIZE_FACTOR**2)
    return checkpoint


def make_items(video: Path, settings: Sequence[str], arguments: EvalArguments) -> list[Item]:
    """The questions about one video."""
    subtitles = (SUBTITLE * arguments.subtitle_words)[: arguments.subtitle_words * 6] + "\n"
    before = {"plain": "", "subtitled": subtitles}
    asks = [(s, str(i), Choice(before[s] + q, "Answer:", OPTIONS)) for s in settings for i, q in enumerate(QUESTIONS)]
    return [Item(number, str(video), ask, "A", ClipPlan(str(video)), setting) for setting, number, ask in asks]


def compare(
    predictor: CheckpointPredictor, arguments: EvalArguments, settings: Sequence[str]
) -> tuple[float, float, bool]:
    """Seconds with shared work, seconds with a pass for each question, and whether all answers were the same."""
    shared_s = alone_s = 0.0
    same = True
    answered(predictor, [make_items(VIDEOS[0], settings, arguments)])  # warms up
    for i in tqdm(range(arguments.n_videos), unit="video", leave=False):
        items = make_items(VIDEOS[i % len(VIDEOS)], settings, arguments)
        sides = {"shared": [items], "alone": [[item] for item in items]}
        seconds, said = {}, {}
        for side in sorted(sides, reverse=i % 2 == 1):
            started = time.perf_counter()
            said[side] = answered(predictor, sides[side])
            seconds[side] = time.perf_counter() - started
        shared_s, alone_s = shared_s + seconds["shared"], alone_s + seconds["alone"]
        same = same and said["shared"] == said["alone"]
    return shared_s, alone_s, same


def answered(predictor: CheckpointPredictor, groups: Sequence[Sequence[Item]]) -> dict[str, str]:
    """Item -> answer, asked group by group. Raises what failed."""
    said = {}
    for group in groups:
        for item, answer in predictor.answer(group):
            if not isinstance(answer, Answer):
                raise answer
            said[item.name] = answer.response
    return said


def visual_tokens(predictor: CheckpointPredictor) -> int:
    """Visual tokens of the first video."""
    clip = read_clip(VIDEOS[0], limits=predictor.checkpoint.limits, rule="question")
    frames, _, height, width = clip.frames.shape
    return frames // 2 * height * width // SIZE_FACTOR**2


if __name__ == "__main__":
    run_command(main)
