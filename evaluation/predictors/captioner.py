"""Any image-text-to-text model of transformers as a predictor: it sees a clip as a whole and writes about it."""

import functools
import inspect
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from data.samples.checkpoint_config import choose_position_mode, limits_of
from data.samples.conversation import VisualBlock
from data.samples.families import MODEL_TYPES, family_of
from data.samples.positions import PositionTracker
from data.video.frame_plan import FRAME_FACTOR, SIZE_FACTOR, Clip
from evaluation.predictors.clip_writer import ClipWriter
from evaluation.predictors.option_scores import option_values
from evaluation.predictors.predictor_arguments import CaptionerArguments, FrameArguments, model_id
from evaluation.scoring.protocol import OURS, Origin
from evaluation.tasks.item import Answer, Choice, Written
from evaluation.tasks.reading import final_answer
from models.load import chosen_device
from utils.errors import UserError
from utils.fingerprint import checkpoint_fingerprint


class Captioner(ClipWriter):
    """A model and processor of transformers' Auto classes. Frames go in as a video, else as pictures."""

    own_errors = (RuntimeError, ValueError, MemoryError)  # what one clip can do to a model, out of memory among it

    def __init__(
        self, model: Any, processor: Any, name_or_path: str, max_images: int = 32, frames: FrameArguments | None = None
    ):
        self.model, self.processor = model, processor
        self.takes_video = getattr(processor, "video_processor", None) is not None
        own = limits_of(model.config)
        limits = frames.limits(own) if frames else own
        parts: dict[str, Origin] = {} if self.takes_video and limits == own else {"frames": OURS}
        super().__init__(model_id(name_or_path), limits, None if self.takes_video else max_images, parts)
        self.position_mode = None
        if model.config.model_type in MODEL_TYPES:
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
        device = chosen_device(device or arguments.device)
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
        return cls(model.eval(), processor, name, arguments.max_images, arguments)

    @torch.inference_mode()
    def write(self, clip: Clip, ask: Written) -> str:
        """A greedy answer, to its end or the limit, without what was thought before it. Raises Unfinished."""
        inputs = self.inputs(clip, ask.text, ask.prefix)
        n_prompt = inputs["input_ids"].shape[1]
        written = self.model.generate(
            **inputs, max_new_tokens=ask.max_new_tokens, do_sample=False, temperature=None, top_p=None, top_k=None
        )
        said = self.processor.tokenizer.decode(written[0, n_prompt:], skip_special_tokens=True)
        return final_answer(said, False, "give a model that does not think: the benchmark allows few tokens")

    @torch.inference_mode()
    def choose(self, clip: Clip, ask: Choice) -> Answer:
        """The option with the highest logit after the prefix; log-likelihoods where an option has several tokens."""
        inputs = self.inputs(clip, ask.text, ask.prefix)
        encode = functools.partial(self.processor.tokenizer.encode, add_special_tokens=False)
        tokens = [encode(f" {option}" if ask.spaced else option) for option in ask.options]

        def logits_after(said: Sequence[int]) -> Tensor:
            return self.model(**_continued(inputs, said)).logits[0, -1].float()

        values = option_values(logits_after, tokens)
        scores = {option: round(value, 6) for option, value in zip(ask.options, values, strict=True)}
        return Answer(max(scores, key=scores.get), logits=scores)

    def inputs(self, clip: Clip, text: str, prefix: str = "") -> dict[str, Any]:
        """Model inputs for a clip, a request and the beginning of a reply, on the model's device."""
        frames = {"type": "video"} if self.takes_video else {"type": "image"}
        n_elements = 1 if self.takes_video else len(clip.frames)
        content = [*[frames] * n_elements, {"type": "text", "text": text}]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        pictures = self.video(clip) if self.takes_video else {"images": list(clip.frames)}
        inputs = self.processor(text=[prompt + prefix], **pictures, return_tensors="pt").to(self.model.device)
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
        config = self.model.config
        if config.model_type not in MODEL_TYPES or "video_grid_thw" not in inputs:
            return None
        ids, grids, seconds = inputs["input_ids"], inputs["video_grid_thw"], inputs.get("second_per_grid_ts", (1.0,))
        step = family_of(config).time_step(float(seconds[0]) / FRAME_FACTOR)
        block = VisualBlock("video", tuple(grids[0].tolist()), step)
        pads = {"video": config.video_token_id, "image": config.image_token_id}
        three = PositionTracker(self.position_mode).extend(ids[0].cpu(), [block], pads).to(ids.device)
        return torch.cat([torch.arange(ids.shape[1], device=ids.device)[None], three])[:, None]

    @functools.cached_property
    def _accepted(self) -> set[str]:
        """Keep of a processor's output what the model takes."""
        return set(inspect.signature(self.model.forward).parameters)

    def _cast(self, value: Any) -> Any:
        return value.to(self.model.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _continued(inputs: dict[str, Any], said: Sequence[int]) -> dict[str, Any]:
    """Inputs of a prompt that goes on with some tokens of text."""
    if not said:
        return inputs
    ids = inputs["input_ids"]
    more = torch.tensor([list(said)], device=ids.device)
    longer = {**inputs, "input_ids": torch.cat([ids, more], 1)}
    if "attention_mask" in inputs:
        longer["attention_mask"] = torch.cat([inputs["attention_mask"], torch.ones_like(more)], 1)
    if "mm_token_type_ids" in inputs:
        longer["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(more)], 1)
    if "position_ids" in inputs:
        positions = inputs["position_ids"]
        steps = torch.arange(1, len(said) + 1, device=ids.device)
        longer["position_ids"] = torch.cat([positions, positions[..., -1:] + steps], -1)
    return longer
