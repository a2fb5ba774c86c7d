"""Noisy captions, as the web has them: what a corpus's commentators say, misheard, late and without a query.

    python -m data.nano.captions --corpus outputs/nano/train --output outputs/nano/train/captions.jsonl

The pre-training data of the nano world. Words are lost or replaced by others, capitals and full stops go in half of
the clips, a clip's words come late by up to a second and jitter; the query is empty, the earlier speech is kept.
Less than a second for 1,000 clips.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data.nano.corpus import stream_sample
from data.samples.annotations import AnnotationFile
from utils.arguments import parse_arguments
from utils.errors import UserError, run_command
from utils.files import write_whole


@dataclass
class NoiseArguments:
    """Whose words, and how noisy they get."""

    corpus: str = field(metadata={"help": "folder of python -m data.nano.corpus"})
    output: str = field(metadata={"help": "JSONL file to write", "path": "output_file"})
    seed: int = field(default=0, metadata={"help": "seed of the noise"})
    lost: float = field(default=0.08, metadata={"help": "share of words that are missing", "le": 1})
    misheard: float = field(
        default=0.08, metadata={"help": "share of words replaced by another of the corpus", "le": 1}
    )
    plain: float = field(default=0.5, metadata={"help": "share of clips without capitals and punctuation", "le": 1})
    most_late_s: float = field(default=0.8, metadata={"help": "a clip's words are late by up to so many seconds"})
    jitter_s: float = field(default=0.15, metadata={"help": "deviation of each word's time in seconds"})


def main() -> None:
    """Run the command."""
    (arguments,) = parse_arguments(NoiseArguments, description=__doc__.splitlines()[0])
    source, output = Path(arguments.corpus) / "commentary.jsonl", Path(arguments.output)
    if not source.is_file():
        raise UserError(f"{source}: no such file; make the corpus with python -m data.nano.corpus")
    shares = (arguments.lost, arguments.misheard, arguments.plain)
    if not all(0 <= share <= 1 for share in shares) or arguments.lost == 1:
        raise UserError(f"--lost, --misheard, --plain {shares}: shares between 0 and 1, and some words must stay")
    file = AnnotationFile(source)
    samples = [file[i] for i in range(len(file))]
    vocabulary = sorted({word.text.strip(".,!?") for sample in samples for word in sample.words.words})
    write_whole(output, "".join(json.dumps(add_noise(sample, vocabulary, arguments)) + "\n" for sample in samples))
    print(f"{len(samples)} captions in {output}")


def add_noise(sample, vocabulary: list[str], arguments: NoiseArguments) -> list:
    """A commentary sample as an annotation line of captions; depends on seed and line number alone."""
    rng = np.random.default_rng((arguments.seed, sample.index))
    late_s, is_plain = rng.uniform(0, arguments.most_late_s), rng.random() < arguments.plain
    video, words = sample.video, []
    for word in sample.words.words:
        if rng.random() < arguments.lost and len(words) + 1 < len(sample.words.words):
            continue
        text = vocabulary[rng.integers(len(vocabulary))] if rng.random() < arguments.misheard else word.text
        text = text.strip(".,!?").lower() if is_plain else text
        shift_s = late_s + rng.normal(0, arguments.jitter_s)
        start_s, end_s = (round(max(0.0, time_s + shift_s), 2) for time_s in (word.start_s, word.end_s))
        if text and end_s <= video.video_end - 0.5:
            words.append([start_s, max(end_s, start_s), text])
    words.sort()
    if not words:  # everything was too late to be heard
        words = [list(sample.words.words[0])]
    return stream_sample(video.video, video.video_end, "", words, sample.query.previous, video.video_start or 0.0)


if __name__ == "__main__":
    run_command(main)
