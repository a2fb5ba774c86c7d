"""Ask a model about held-out matches in mid-stream, and count the answers that are right word by word.

    python -m evaluation.nano.ask --model_name_or_path models/nano_checkpoint \\
        --annotations outputs/quickstart/test/commentary.jsonl

Each clip is commented on to the second at which its sample asks, then each of its questions is asked on a fork, as a
person would. CPU is enough: about half a minute for 100 clips. Prints right, asked and their share for each question.
"""

import json
import sys
from collections import Counter
from dataclasses import dataclass, field

from tqdm import tqdm

from data.annotations import AnnotationFile, Sample, resolve_media
from data.nano.questions import QUESTIONS
from data.video import read_clip
from models.load import Checkpoint, load_checkpoint
from models.streaming import StreamingSession, StreamOptions, comment, timed_frames
from models.threads import use_threads
from utils.arguments import parse_arguments
from utils.errors import run_command

KIND_OF = {wording: kind for kind, (wordings, _) in QUESTIONS.items() for wording in wordings}


@dataclass
class AskArguments:
    """Who is asked, and what."""

    model_name_or_path: str = field(metadata={"help": "checkpoint folder"})
    annotations: str = field(
        metadata={"help": "commentary.jsonl of data.nano.corpus, split test: streams and questions"}
    )
    repetition_penalty: float = field(default=1.0, metadata={"help": "1.0: none"})
    limit: int | None = field(default=None, metadata={"help": "only the first N clips"})


def answers(checkpoint: Checkpoint, sample: Sample, options: StreamOptions) -> list[tuple[str, str, str]]:
    """Kind of question ("state" where it is for the state of play), the model's answer and the right one."""
    video = sample.video
    clip = read_clip(resolve_media(video.video, sample), video.video_start, video.video_end, limits=checkpoint.limits)
    session = StreamingSession(checkpoint, options)
    for _ in comment(session, timed_frames(clip.frames)):
        pass
    texts = [message.elements[0].text for message in sample.questions]
    asked = list(zip(texts[::2], texts[1::2], strict=True))
    said = [(KIND_OF.get(question, "state"), "".join(session.ask(question)), right) for question, right in asked]
    session.close()
    return said


def main() -> None:
    """Run the command."""
    (arguments,) = parse_arguments(AskArguments, description=__doc__.splitlines()[0])
    checkpoint = load_checkpoint(arguments.model_name_or_path)
    use_threads(checkpoint.model)
    file = AnnotationFile(arguments.annotations)
    options = StreamOptions(max_new_tokens=24, max_answer_tokens=24, repetition_penalty=arguments.repetition_penalty)
    right, asked = Counter(), Counter()
    for i in tqdm(range(len(file))[: arguments.limit], unit="clip"):
        for kind, said, truth in answers(checkpoint, file[i], options):
            asked[kind] += 1
            right[kind] += said.strip() == truth
    rows = {kind: {"right": right[kind], "asked": n, "share": right[kind] / n} for kind, n in sorted(asked.items())}
    if not sys.stdout.isatty():
        print(json.dumps(rows))
        return
    for kind, row in rows.items():
        print(f"{kind:<6} {row['right']:>4} of {row['asked']:<4} {row['share']:.2f}")


if __name__ == "__main__":
    run_command(main)
