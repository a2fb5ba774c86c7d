"""transformers' own model of a family over whole conversations: what a stream's cache, positions and features are
compared with.

Its tower, its embedding of features, its positions and its generation; nothing of this repository.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor


class Reference:
    """A checkpoint as the library runs it, in float32, without a cache."""

    def __init__(self, folder: Path):
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.video = Qwen2VLVideoProcessor(do_resize=False)

    @torch.inference_mode()
    def logits(self, ids: Sequence[int], clips: Sequence[Tensor], mode: str = "mrope") -> Tensor:
        """Logits [T, V] after each token of a conversation with these clips, uint8 [T, 3, H, W], where its pads are."""
        inputs = self._inputs(ids, clips)
        positions = self.positions(ids, inputs["video_grid_thw"], mode)
        return self.model(**inputs, position_ids=positions, use_cache=False).logits[0]

    @torch.inference_mode()
    def generate(self, ids: Sequence[int], clips: Sequence[Tensor], n: int, eos_ids: Sequence[int], **options) -> list:
        """Ids of a greedy answer of at most n tokens."""
        pads = [self.model.config.image_token_id, self.model.config.video_token_id]
        inputs = self._inputs(ids, clips)
        found = self.model.generate(
            **inputs,
            attention_mask=torch.ones_like(inputs["input_ids"]),
            do_sample=False,
            max_new_tokens=n,
            eos_token_id=list(eos_ids),
            pad_token_id=0,
            suppress_tokens=pads,
            **options,
        )
        return found[0, len(ids) :].tolist()

    def positions(self, ids: Sequence[int], grids: Tensor, mode: str) -> Tensor:
        """[3, 1, T]. mrope: the library's index, which is the model's definition while no video is longer than wide.

        livecc: the published loop's, three axes in the first video and one count from its end on.
        """
        ids = torch.tensor([ids])
        kinds = self._kinds(ids)
        index, _ = self.model.model.get_rope_index(ids, mm_token_type_ids=kinds, video_grid_thw=grids)
        behind = 0 if mode == "sequential" else int(kinds[0].nonzero()[0]) + int(grids[0].prod()) // 4
        if mode != "mrope":
            first = int(index[:, 0, :behind].max()) + 1 if behind else 0
            index[:, 0, behind:] = torch.arange(first, first + ids.shape[1] - behind)
        return index

    def _inputs(self, ids: Sequence[int], clips: Sequence[Tensor]) -> dict[str, Tensor]:
        video = self.video(videos=list(clips), return_tensors="pt")
        input_ids = torch.tensor([ids])
        return {
            "input_ids": input_ids,
            "mm_token_type_ids": self._kinds(input_ids),
            "pixel_values_videos": video["pixel_values_videos"],
            "video_grid_thw": video["video_grid_thw"],
        }

    def _kinds(self, ids: Tensor) -> Tensor:
        return (ids == self.model.config.video_token_id).int() * 2
