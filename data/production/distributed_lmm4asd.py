"""Whether a clip is a talking head, asked of a Qwen2-VL: the probability that it answers "Yes".

    python -m data.production.distributed_lmm4asd clips.jsonl kept.jsonl

Where someone always shows a face and talks, the speech is not about what is seen. The model is shown 8 frames, evenly
spaced over the clip, and asked once; the score is the probability of "Yes" over the whole vocabulary. The paper keeps
clips below 0.3 under Qwen2-VL-2B-Instruct. Frames are read at 320 x 180 (height x width, as published: a landscape
picture is squeezed), the nearest multiples of 28. Hardware: one GPU per worker (a few to a GPU by `gpus`), or all CPU
cores. Most of the time goes into decoding, which is done ahead by as many threads as the worker has.

The model comes through models/load.py and models/streaming/prefix.py, imported when a worker starts; evaluation asks
its questions through the same two, and a second loader here would be the worse dependency.
"""

import hashlib
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if not __package__:  # run as a file: import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from data.production.model_files import local_model, model_fingerprint
from data.production.record import Record
from data.production.stage import Stage, Worker
from data.video.container import VideoError
from utils.errors import UserError
from utils.templates import Templates

if TYPE_CHECKING:
    from torch import Tensor

    from models.load import Checkpoint

TEMPLATES = Path(__file__).with_name("templates")
QUESTION, YES = "talking_head", "Yes"
SCORE = "talking_head"
AT_ONCE = 16  # clips whose frames wait in memory, 1 MB each


@dataclass
class TalkingHeadOptions:
    """Which model, what it sees, and what is kept."""

    model: str = field(default="Qwen/Qwen2-VL-2B-Instruct", metadata={"help": "hub id or folder of a Qwen2-VL"})
    dtype: Literal["float32", "bfloat16", "float16"] | None = field(
        default=None, metadata={"help": "number format; default: bfloat16 on a GPU, float32 on a CPU"}
    )
    frames: int = field(default=8, metadata={"help": "frames, an even number", "ge": 2})
    height: int = field(default=320, metadata={"help": "of a frame as the model sees it", "ge": 28})
    width: int = field(default=180, metadata={"help": "of a frame as the model sees it", "ge": 28})
    threshold: float = field(
        default=0.3, metadata={"help": "keep clips below this probability", "threshold": True, "le": 1}
    )


class TalkingHead(Stage):
    """Sets scores["talking_head"], the probability of "Yes"."""

    name, version, Options = "distributed_lmm4asd", 1, TalkingHeadOptions
    batch_size, gpus, cpus = 64, 1.0, 0
    _readers: ThreadPoolExecutor | None = None

    def check(self) -> None:
        local_model(self.options.model)
        if self.options.frames < 2 or self.options.frames % 2:
            raise UserError(f"--frames {self.options.frames}: the model takes an even number")
        if min(self.options.height, self.options.width) < 28:
            raise UserError(f"{self.options.height} x {self.options.width}: a side must be at least 28 pixels")

    def fingerprint(self) -> str:
        question = hashlib.sha256((TEMPLATES / f"{QUESTION}.txt").read_bytes()).hexdigest()[:16]
        return f"{model_fingerprint(self.options.model)} {question}"

    def setup(self, worker: Worker) -> None:
        import torch

        from models.load import load_checkpoint

        if worker.device == "cpu":
            torch.set_num_threads(worker.n_threads)
        self._checkpoint = load_checkpoint(self.options.model, device=worker.device, dtype=self.options.dtype)
        self._question = Templates(TEMPLATES).fill(QUESTION)
        self._readers = ThreadPoolExecutor(max(1, worker.n_threads))

    def process(self, records: list[Record]) -> list[list[Record]]:
        for first in range(0, len(records), AT_ONCE):
            part = records[first : first + AT_ONCE]
            for record, clip in zip(part, self._readers.map(self._clip, part), strict=True):
                if isinstance(clip, VideoError):
                    record.reject(self.name, "broken_video", str(clip), failed=True)
                else:
                    record.scores[SCORE] = round(yes_probability(self._checkpoint, *clip, self._question), 4)
        return [[record] for record in records]

    def judge(self, record: Record) -> None:
        if record.scores[SCORE] >= self.options.threshold:
            detail = f"probability {record.scores[SCORE]:.3f}, below {self.options.threshold:g} is kept"
            record.reject(self.name, "talking_head", detail)

    def teardown(self) -> None:
        self._checkpoint = None
        if self._readers:  # a worker that only judges is not set up
            self._readers.shutdown()

    def _clip(self, record: Record) -> "tuple[Tensor, float] | VideoError":
        """The clip's frames as the model sees them, uint8 [n, 3, H, W], and how many seconds each stands for, or what
        is wrong with its video."""
        from data.video.clip import VideoFile
        from data.video.frame_plan import SIZE_FACTOR, VideoLimits, plan_question

        sides = (self.options.height, self.options.width)
        size_hw = tuple(round(side / SIZE_FACTOR) * SIZE_FACTOR for side in sides)
        limits = VideoLimits(max_frames=self.options.frames)
        try:
            with VideoFile(record.video) as video:
                try:
                    plan = plan_question(
                        video.table, record.start_s, record.end_s, limits, average_fps=video.average_fps
                    )
                except ValueError as error:
                    return VideoError(f"{record.video}: {error}")
                return video.read(plan.indices, size_hw), plan.frame_s
        except VideoError as error:
            return error


def yes_probability(checkpoint: "Checkpoint", frames: "Tensor", frame_s: float, question: str) -> float:
    """The probability that the model's answer to a question about a clip begins with "Yes".

    frames: uint8 [n, 3, H, W], `frame_s` seconds apart.

    Over the whole vocabulary; where "Yes" is several tokens, the product of theirs.
    """
    from data.samples.conversation import Turn
    from models.streaming.prefix import PrefixReader
    from models.streaming.requests import VisionRequest

    (block, features) = checkpoint.batch.execute([VisionRequest(frames, frame_s)])[0]
    chat, reader = checkpoint.chat, PrefixReader(checkpoint, block, features)
    ids = [*chat.system_ids(), *chat.turn_ids(Turn("user", [block, question])), *chat.header_ids("assistant")]
    log_probability = 0.0
    for token in chat.text_ids(YES):
        log_probability += float(reader.logits(ids).log_softmax(-1)[token])
        ids = [*ids, token]
    return math.exp(log_probability)


STAGE = TalkingHead

if __name__ == "__main__":
    from data.production.command import run_stage

    run_stage(STAGE)
