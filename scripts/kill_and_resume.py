"""Kill a training run again and again and show that it ends as if it had not been: the same losses, digit for digit.

    python scripts/kill_and_resume.py --kills 20          (--kills 2 for a look)

It trains the nano checkpoint on files that it makes itself (two that are mixed by weight, with videos, pictures and
text, packed into rows), once without a break and once with SIGKILL or SIGTERM at random moments, half of the times with
damage to the newest checkpoint (a file of it emptied, cut or removed), each time resumed by the same command again.
Then it compares every logged number that does not measure time, and every weight, bit for bit.

Hardware: two CPU cores, 2 GB of memory, no GPU. Time: about 15 s a kill, most of it starting Python. Expected: how many
kills hit (a process that died of SIGKILL counts, one that had ended before does not), "the same", and exit status 0; 1
where a step was lost, repeated or computed otherwise, or where a kill missed.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # runs from anywhere without PYTHONPATH
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import av
import numpy as np
from PIL import Image
from safetensors.numpy import load_file

from models.training.checkpoints import folder_of, resumable_steps
from utils.arguments import helped, parse_arguments
from utils.errors import UserError, run_command

ROOT = Path(__file__).resolve().parents[1]
WORDS = ["red", "blue", "green", "passes", "shoots", "wins", "the", "ball", "again", "and", "goes", "back", "left"]
# The numbers of a log that measure the machine.
MEASURED = ("tokens_per_second", "data_wait_share", "mfu", "hfu", "memory_gb")
STALL_S = 600  # a run that logs nothing for so long hangs


@dataclass
class KillArguments:
    """How often a run is killed, and which."""

    kills: int = helped(20, "how often the run is killed, at random moments")
    steps: int = helped(60, "optimizer steps of the run")
    seed: int = helped(0, "seed of the moments")
    folder: str | None = helped(None, "where data and runs are kept; default: thrown away")


def main(argv: list[str] | None = None) -> int:
    """Train, train again with kills, compare; 1 where the two differ."""
    (arguments,) = parse_arguments(KillArguments, description=__doc__.splitlines()[0], argv=argv)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        flags = training_flags(make_data(folder / "data"), arguments.steps)
        whole, killed = folder / "whole", folder / "killed"
        train_to_end([*flags, "--output_dir", str(whole)])
        steps = run_with_kills(flags, killed, arguments.kills, arguments.steps, random.Random(arguments.seed))
        difference = compare_runs(whole, killed)
    hits = f"killed {len(steps)} of {arguments.kills} times, at steps {', '.join(map(str, steps))}"
    print(f"{hits}: {difference or 'the same'}")
    return int(difference is not None or len(steps) < arguments.kills)


def make_data(folder: Path) -> list[Path]:
    """Make two annotation files, their video and their picture, the same at every run."""
    folder.mkdir(parents=True, exist_ok=True)
    random_numbers = np.random.default_rng(0)
    _write_video(folder / "film.mp4", random_numbers)
    Image.fromarray(random_numbers.integers(0, 255, (84, 140, 3), dtype=np.uint8)).save(folder / "picture.png")
    files = {"streams": [_stream(i) for i in range(30)], "answers": [_answer(i) for i in range(20)]}
    for name, samples in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return [folder / f"{name}.jsonl" for name in files]


def training_flags(annotations: Sequence[Path], steps: int) -> list[str]:
    """Flags of a packed run on a mix, with several batches an update and workers that decode ahead."""
    flags = {
        "--pretrained_model_name_or_path": [ROOT / "models/nano_checkpoint"],
        "--annotation_paths": annotations,
        "--annotation_weights": [1, 2],
        "--max_tokens_per_batch": [640],
        "--max_length": [640],
        "--gradient_accumulation_steps": [2],
        "--max_steps": [steps],
        "--save_steps": [3],
        "--save_total_limit": [2],
        "--logging_steps": [1],
        "--learning_rate": [1e-3],
        "--dataloader_num_workers": [1],
        "--report_to": ["none"],
    }
    return [str(word) for name, values in flags.items() for word in (name, *values)]


def train_to_end(flags: Sequence[str]) -> None:
    """Train to the end. Raises UserError with what the run said where it fails."""
    done = subprocess.run(_command(flags), cwd=ROOT, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise UserError(f"train.py ended with status {done.returncode}: {done.stderr[-2000:]}")


def run_with_kills(
    flags: Sequence[str], output_dir: Path, n_kills: int, n_steps: int, moments: random.Random
) -> list[int]:
    """Train to the end with n_kills SIGKILLs on the way; returns the last step logged before each that hit."""
    flags, killed_at = [*flags, "--output_dir", str(output_dir)], []
    for kill in range(n_kills):
        # Spread over the whole run, each beyond the last, so that every attempt gets further.
        target = moments.randint(kill * n_steps // n_kills + 1, max((kill + 1) * n_steps // n_kills - 1, 1))
        how = moments.choice([signal.SIGKILL, signal.SIGTERM])
        step = _kill_at(target, flags, output_dir / "train_log.jsonl", moments.random() / 10, how)
        if step is not None and moments.random() < 0.5:
            print(_damage_newest(output_dir, moments) or "no checkpoint to spare: none is damaged", flush=True)
        print(f"kill {kill + 1}: {'missed, the run had ended' if step is None else f'at step {step}'}", flush=True)
        killed_at += [] if step is None else [step]
    train_to_end(flags)
    return killed_at


def _damage_newest(output_dir: Path, moments: random.Random) -> str | None:
    """Empty, cut or remove a file of the newest checkpoint where there is one before it; say what was done."""
    steps = sorted(resumable_steps(output_dir))
    if len(steps) < 2:
        return None
    files = sorted(path for path in folder_of(output_dir, steps[-1]).iterdir() if path.stat().st_size > 1)
    path, how = moments.choice(files), moments.choice(["emptied", "cut", "removed"])
    if how == "removed":
        path.unlink()
    else:
        os.truncate(path, 0 if how == "emptied" else path.stat().st_size // 2)
    return f"{path.parent.name}/{path.name} {how}"


def compare_runs(whole: Path, killed: Path) -> str | None:
    """Describe how two finished runs differ; None where they do not."""
    logs = [_logged(folder) for folder in (whole, killed)]
    if [line["step"] for line in logs[0]] != [line["step"] for line in logs[1]]:
        return f"steps were lost or repeated: {[line['step'] for line in logs[1]]}"
    for one, other in zip(*logs, strict=True):
        if one != other:
            return f"step {one['step']} differs: {one} and {other}"
    weights = [load_file(folder / "model.safetensors") for folder in (whole, killed)]
    changed = [name for name, value in weights[0].items() if not np.array_equal(value, weights[1][name])]
    return f"weights differ: {', '.join(changed)}" if changed else None


def _logged(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "train_log.jsonl").read_text("utf-8").splitlines()]
    return [{name: line[name] for name in line if name not in MEASURED} for line in lines if "loss" in line]


def _kill_at(
    step: int, flags: Sequence[str], log: Path, later_s: float, how: signal.Signals = signal.SIGKILL
) -> int | None:
    """Start or resume the run and end it with a signal soon after it has logged a step.

    Returns the last step logged, or None where the run had ended before the kill came.
    """
    # A file, since a pipe that nobody reads fills up and stops the run.
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(_command(flags), cwd=ROOT, stderr=said) as process:
            try:
                deadline = time.monotonic() + STALL_S
                while _last_step(log) < step and process.poll() is None:
                    if time.monotonic() > deadline:
                        raise UserError(f"train.py logged no step {step} within {STALL_S} s")
                    time.sleep(0.002)
                time.sleep(later_s)
                process.send_signal(how)
                process.wait(STALL_S)
            finally:
                process.send_signal(signal.SIGKILL)
        if process.returncode > 0 and process.returncode != 128 + how:
            said.seek(0)
            raise UserError(f"train.py ended with {process.returncode}: {said.read()[-2000:].decode()}")
    return _last_step(log) if process.returncode in (-how, 128 + how) else None


def _last_step(log: Path) -> int:
    """The last step in a log that a run may be writing, or that a kill has cut short; 0 without one."""
    lines = log.read_text("utf-8").splitlines() if log.exists() else []
    for line in reversed(lines):
        try:
            return json.loads(line)["step"]
        except (ValueError, KeyError):
            continue
    return 0


def _command(flags: Sequence[str]) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *flags]


def _stream(i: int) -> list[dict]:
    words = [[0.3 * k, 0.3 * k + 0.2, WORDS[(i + 3 * k) % len(WORDS)]] for k in range(4 + i % 8)]
    video = {"type": "video", "video": "film.mp4", "video_start": 0.0, "video_end": 3.9}
    asked = [video, {"type": "text", "text": f"Describe it, {WORDS[i % len(WORDS)]}."}]
    speech = {"type": "text_stream", "text_stream": words}
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": [speech]}]


def _answer(i: int) -> list[dict]:
    shown = [{"type": "image", "image": "picture.png"}] * (i % 3)
    asked = [*shown, {"type": "text", "text": f"What is {i}?"}]
    said = " ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 2 + i % 5))
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": [{"type": "text", "text": said}]}]


def _write_video(path: Path, random_numbers: np.random.Generator) -> None:
    """Four seconds of moving noise, 160 x 96."""
    ground = random_numbers.integers(0, 255, (96, 320, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"threads": "1", "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = 96, 160, "yuv420p"
        for number in range(100):
            shown = np.ascontiguousarray(ground[:, number : number + 160])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())


if __name__ == "__main__":
    run_command(main)
