"""Held-out commentary during training: a few clips, streamed as a user would, beside frames and annotation."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback, WandbCallback
from transformers.trainer_callback import CallbackHandler

from data.samples.annotations import AnnotationFile, Sample
from data.samples.media import video_of
from data.samples.words import SILENCE, words_by_step
from data.video.clip import read_clip
from data.video.frame_plan import FPS
from models.load import Checkpoint
from models.streaming.options import DEFAULT_QUERY, StreamOptions
from models.streaming.requests import Batch
from models.streaming.session import Step, StreamingSession, comment, timed_frames
from models.training.held_out_page import write_page
from utils.arguments import helped
from utils.errors import UserError
from utils.files import write_whole

logger = logging.getLogger(__name__)

MAX_NEW_TOKENS = 32  # a step: an untrained model says more than it should


@dataclass
class HeldOutArguments:
    """Clips to comment on during training."""

    held_out_annotations: str | None = helped(
        None, "JSONL file of streams to comment on during training; see OUTPUT_DIR/held_out"
    )
    held_out_clips: int = helped(2, "the first N streams of that file")
    held_out_steps: int = helped(500, "comment on them every N steps, and at the end")


@dataclass
class SpokenStep:
    """A step of a clip: when, its last frame uint8 [3, H, W], what the model said and what the annotation says."""

    start_s: float
    end_s: float
    frame: Tensor
    said: str
    wanted: str


Writer = Callable[[int, dict[str, list[SpokenStep]]], None]


class HeldOut(TrainerCallback):
    """Comments on the clips in the first process, every few steps; training itself is not touched.

    Writes OUTPUT_DIR/held_out/step_N.jsonl and step_N.html, and hands the text to TensorBoard and wandb where these are
    on. Raises UserError at once for a file without streams.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        arguments: HeldOutArguments,
        output_dir: str | Path,
        reporters: CallbackHandler,
        media_root: str | None = None,
    ):
        self.checkpoint, self.folder, self.reporters = checkpoint, Path(output_dir) / "held_out", reporters
        self.every = arguments.held_out_steps
        if self.every < 1 or arguments.held_out_clips < 1:
            raise UserError(
                f"--held_out_steps {self.every}, --held_out_clips {arguments.held_out_clips}: give 1 or more of each"
            )
        file = AnnotationFile(arguments.held_out_annotations, media_root)
        streams = (sample for sample in map(file.__getitem__, range(len(file))) if sample.is_stream)
        self.samples = list(islice(streams, arguments.held_out_clips))
        if not self.samples:
            raise UserError(
                f"--held_out_annotations {arguments.held_out_annotations}: no streams in its {len(file)} lines; give a "
                "file of streaming samples (data/samples/annotations.py)"
            )

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero and (state.global_step % self.every == 0 or control.should_training_stop):
            self.speak(state.global_step)

    def speak(self, step: int) -> None:
        """Comment on every clip with the weights as they are now."""
        clips = {_title(sample): self._comment(sample) for sample in self.samples}
        lines = [
            {"step": step, "clip": clip, "start_s": s.start_s, "end_s": s.end_s, "said": s.said, "wanted": s.wanted}
            for clip, spoken in clips.items()
            for s in spoken
        ]
        path = self.folder / f"step_{step:07d}.jsonl"
        write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        write_page(path.with_suffix(".html"), f"{self.checkpoint.name}, step {step}", clips)
        logger.info("held-out commentary at step %d: %s", step, path.with_suffix(".html"))
        for write in writers(self.reporters.callbacks):
            write(step, clips)

    def _comment(self, sample: Sample) -> list[SpokenStep]:
        model = self.checkpoint.model
        was_training = model.training
        model.eval()
        try:
            return self._stream(sample)
        finally:
            model.train(was_training)

    def _stream(self, sample: Sample) -> list[SpokenStep]:
        clip = video_of(sample, sample.video, limits=self.checkpoint.limits, rule="stream", read=read_clip).read()
        # A batch of its own: the storage for its cache is given back with it.
        options = StreamOptions(query=sample.query.text or DEFAULT_QUERY, max_new_tokens=MAX_NEW_TOKENS)
        session = StreamingSession(self.checkpoint, options, Batch(self.checkpoint.model, n_rows=1))
        steps = list(comment(session, timed_frames(clip.frames)))
        session.close()
        return _beside(steps, clip.frames, sample, float(clip.times_s[0]))


def _beside(steps: list[Step], frames: Tensor, sample: Sample, first_s: float) -> list[SpokenStep]:
    """Pair steps with their last frames and the annotation's words, whose times count from the video's start."""
    last = [min(round(step.end_s * 2) - 1, len(frames) - 1) for step in steps]
    wanted, _ = words_by_step(sample.words.words, [first_s + i / FPS for i in last], first_s)
    return [
        SpokenStep(step.start_s, step.end_s, frames[i], step.text, text.removesuffix(SILENCE).strip())
        for step, i, text in zip(steps, last, wanted, strict=True)
    ]


def _title(sample: Sample) -> str:
    return f"{Path(sample.video.video).name}, line {sample.line_no}"


def writers(reporters: Iterable[TrainerCallback]) -> Iterator[Writer]:
    """Yield a writer of the commentary for each of the library's reporters that is at work."""
    for reporter in reporters:
        if isinstance(reporter, TensorBoardCallback) and reporter.tb_writer is not None:
            yield tensorboard_writer(reporter.tb_writer)
        if isinstance(reporter, WandbCallback):
            import wandb

            if wandb.run is not None:
                yield wandb_writer(wandb.run)


def tensorboard_writer(writer) -> Writer:
    """Make a writer to a SummaryWriter: one text and one strip of frames per clip."""

    def write(step: int, clips: dict[str, list[SpokenStep]]) -> None:
        for clip, spoken in clips.items():
            rows = [f"| {s.start_s:.0f}-{s.end_s:.0f} s | {_cell(s.said)} | {_cell(s.wanted)} |" for s in spoken]
            table = "\n".join(["| | model | annotation |", "|---|---|---|", *rows])
            writer.add_text(f"held_out/{clip}", table, step)
            strip = torch.cat([s.frame for s in spoken[:12]], dim=2)
            writer.add_image(f"held_out/{clip}", strip, step)

    return write


def wandb_writer(run) -> Writer:
    """Make a writer to a wandb run: a table with pictures."""
    import wandb

    def write(step: int, clips: dict[str, list[SpokenStep]]) -> None:
        table = wandb.Table(columns=["clip", "second", "frame", "model", "annotation"])
        for clip, spoken in clips.items():
            for s in spoken:
                picture = wandb.Image(s.frame.permute(1, 2, 0).contiguous().numpy())
                table.add_data(clip, s.end_s, picture, s.said, s.wanted)
        run.log({"held_out": table, "train/global_step": step})

    return write


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ") or "..."
