"""Any image-text-to-text model of transformers as a predictor: it sees a clip as a whole and writes about it."""

import dataclasses
import functools
import inspect
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from data.conversation import VisualBlock
from data.frame_plan import SIZE_FACTOR, Clip, VideoLimits
from data.video import VideoError, VideoFile
from evaluation.checkpoint_arguments import model_id
from evaluation.checkpoint_predictor import group_by_clip
from evaluation.item import Answer, Item, Written
from models.load import choose_position_mode, limits_of, preferred_device
from models.positions import PositionTracker
from utils.errors import UserError
from utils.fingerprint import checkpoint_fingerprint


@dataclass
class CaptionerArguments:
    """Which model writes, and how it runs."""

    model_name_or_path: str | None = field(
        default=None, metadata={"help": "folder or hub id of any image-text-to-text model of transformers"}
    )
    api_model: str | None = field(
        default=None,
        metadata={"help": "in its place: a model behind an OpenAI-compatible endpoint, such as gpt-4o-2024-08-06"},
    )
    max_images: int = field(
        default=32, metadata={"help": "frames, evenly spread, for an endpoint or a model that takes no videos"}
    )
    device: str | None = field(default=None, metadata={"help": "cuda, cuda:1, mps or cpu; default: the fastest here"})
    dtype: str | None = field(
        default=None, metadata={"help": "float32, bfloat16 or float16; default: bfloat16 on a GPU, float32 on a CPU"}
    )

    def __post_init__(self) -> None:
        if (self.model_name_or_path is None) == (self.api_model is None):
            raise UserError("give --model_name_or_path or --api_model, and not both")
        if self.max_images < 2:
            raise UserError(f"--max_images {self.max_images}: give at least 2")
        if self.dtype not in (None, "float32", "bfloat16", "float16"):
            raise UserError(f"--dtype {self.dtype}: choose float32, bfloat16 or float16")


class ClipWriter:
    """The part that captioners share: clips are read one after the other, and each is written about as asked.

    max_frames: a limit below that of `limits`. A subclass says how (`write`), and which errors are one item's own.
    """

    own_errors: tuple[type[Exception], ...] = ()

    def __init__(self, name: str, limits: VideoLimits, max_frames: int | None = None):
        self.name = name
        if max_frames is not None:
            limits = dataclasses.replace(limits, max_frames=min(limits.max_frames, max_frames))
        self.limits = limits

    def write(self, clip: Clip, ask: Written) -> str:
        """What the model writes of the clip."""
        raise NotImplementedError

    def answer(self, items: Sequence[Item]) -> Iterator[tuple[Item, Answer | Exception]]:
        """Answer items of one video; memory holds one clip at a time."""
        video: VideoFile | None = None
        try:
            for plan, asked in group_by_clip(items).items():
                try:
                    video = video or VideoFile(plan.video)
                    clip = video.clip(
                        plan.start_s, plan.end_s, limits=self.limits, rule=plan.rule, frame_times=plan.frame_times
                    )
                except VideoError as error:
                    yield from ((item, error) for item in asked)
                    continue
                for item in asked:
                    yield item, self._answer(clip, item.ask)
        finally:
            if video is not None:
                video.close()

    def _answer(self, clip: Clip, ask: Written) -> Answer | Exception:
        started = time.perf_counter()
        try:
            response = self.write(clip, ask)
        except self.own_errors as error:
            return error
        return Answer(response, seconds=round(time.perf_counter() - started, 4))


class Captioner(ClipWriter):
    """A model and processor of transformers' Auto classes. Frames go in as a video, else as pictures."""

    own_errors = (RuntimeError, ValueError, MemoryError)  # what one clip can do to a model, out of memory among it

    def __init__(self, model: Any, processor: Any, name_or_path: str, max_images: int = 32):
        self.model, self.processor = model, processor
        self.takes_video = getattr(processor, "video_processor", None) is not None
        super().__init__(model_id(name_or_path), limits_of(model.config), None if self.takes_video else max_images)
        self.position_mode = None
        if model.config.model_type == "qwen2_vl":
            self.position_mode = choose_position_mode(model.config, name_or_path)
        local = Path(name_or_path)
        folder = local if local.is_dir() else snapshot_download(name_or_path, local_files_only=True)
        self.settings = {
            "fingerprint": checkpoint_fingerprint(folder),
            "dtype": str(model.dtype).removeprefix("torch."),
            "video_limits": asdict(self.limits),
            "position_mode": self.position_mode,
        }

    @classmethod
    def load(cls, arguments: CaptionerArguments, device: str | None = None) -> "Captioner":
        """Load the model that a command names; device: in place of the one it names. Raises UserError."""
        name = arguments.model_name_or_path
        device = torch.device(device or arguments.device or preferred_device())
        dtype = getattr(torch, arguments.dtype or ("float32" if device.type == "cpu" else "bfloat16"))
        try:
            processor = AutoProcessor.from_pretrained(name)
            model = AutoModelForImageTextToText.from_pretrained(
                name, dtype=dtype, attn_implementation="sdpa", use_safetensors=True, device_map={"": device}
            )
        except (OSError, ValueError, ImportError, SafetensorError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"{name}: cannot be loaded as an image-text-to-text model ({reason})") from error
        if not getattr(processor, "chat_template", None):
            raise UserError(f"{name}: its processor has no chat template; give a model that was trained to be asked")
        return cls(model.eval(), processor, name, arguments.max_images)

    @torch.inference_mode()
    def write(self, clip: Clip, ask: Written) -> str:
        """A greedy answer, to its end or the limit."""
        inputs = self.inputs(clip, ask.text)
        n_prompt = inputs["input_ids"].shape[1]
        written = self.model.generate(
            **inputs, max_new_tokens=ask.max_new_tokens, do_sample=False, temperature=None, top_p=None, top_k=None
        )
        return self.processor.tokenizer.decode(written[0, n_prompt:], skip_special_tokens=True).strip()

    def inputs(self, clip: Clip, text: str) -> dict[str, Any]:
        """What the model is given for a clip and a request, on its device."""
        frames = {"type": "video"} if self.takes_video else {"type": "image"}
        n_elements = 1 if self.takes_video else len(clip.frames)
        content = [*[frames] * n_elements, {"type": "text", "text": text}]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        pictures = self.video(clip) if self.takes_video else {"images": list(clip.frames)}
        inputs = self.processor(text=[prompt], **pictures, return_tensors="pt").to(self.model.device)
        given = {name: self._cast(value) for name, value in inputs.items() if name in self._accepted}
        positions = self.positions(given)
        return given if positions is None else {**given, "position_ids": positions}

    def video(self, clip: Clip) -> dict[str, Any]:
        """A clip as the processor takes it: all its frames, with their rate, and no second resize where none is due."""
        seconds = float(clip.times_s[-1] - clip.times_s[0])
        n_frames = len(clip.frames)
        metadata = {
            "total_num_frames": n_frames,
            "fps": (n_frames - 1) / seconds if seconds > 0 else 2.0,
            "frames_indices": list(range(n_frames)),
        }
        processor = self.processor.video_processor
        patch, merge = getattr(processor, "patch_size", None), getattr(processor, "merge_size", None)
        is_sized = isinstance(patch, int) and isinstance(merge, int) and patch * merge == SIZE_FACTOR
        return {
            "videos": [clip.frames],
            "video_metadata": [metadata],
            "do_sample_frames": False,
            **({"do_resize": False} if is_sized else {}),
        }

    def positions(self, inputs: dict[str, Any]) -> Tensor | None:
        """Positions [4, 1, T] (text, time, height, width) where the library's own would be wrong, else None.

        After a video, transformers 5.23 goes on from its height or width where Qwen2-VL and Qwen2.5-VL are defined to
        go on from the largest position in it, which may be a time; so the text after a long clip would stand inside it.
        """
        kind = self.model.config.model_type
        if kind not in ("qwen2_vl", "qwen2_5_vl") or "video_grid_thw" not in inputs:
            return None
        ids = inputs["input_ids"]
        if kind == "qwen2_vl":
            block = VisualBlock("video", tuple(inputs["video_grid_thw"][0].tolist()))
            pads = {"video": self.model.config.video_token_id, "image": self.model.config.image_token_id}
            three = PositionTracker(self.position_mode).extend(ids[0].cpu(), [block], pads).to(ids.device)
        else:
            index = self.model.model.get_rope_index
            known = inspect.signature(index).parameters
            three = index(**{name: value for name, value in inputs.items() if name in known})[0][:, 0]
            after = int((ids[0] == self.model.config.video_token_id).nonzero()[-1]) + 1
            three[:, after:] += three[:, :after].max() + 1 - three[0, after]
        return torch.cat([torch.arange(ids.shape[1], device=ids.device)[None], three])[:, None]

    @functools.cached_property
    def _accepted(self) -> set[str]:
        """What the model takes of what a processor gives."""
        return set(inspect.signature(self.model.forward).parameters)

    def _cast(self, value: Any) -> Any:
        return value.to(self.model.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def load_captioner(arguments: tuple[CaptionerArguments, Any], device: str | None = None) -> ClipWriter:
    """The captioner that a command names: a model of transformers, or one behind an endpoint (its second arguments)."""
    captioner, endpoint = arguments
    if captioner.api_model is None:
        return Captioner.load(captioner, device)
    from evaluation.api_captioner import ApiCaptioner  # the openai package is slow to import

    return ApiCaptioner.connect(captioner, endpoint, n_processes=int(os.environ.get("WORLD_SIZE", "1")))
