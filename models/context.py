"""What a model has read so far in one stream: its cache, its positions, and the tokens in them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from data.conversation import VisualBlock
from data.patches import cut_patches
from models.cache import FullCache
from models.positions import PositionMode, PositionTracker
from models.qwen2_vl import StreamingQwen2VL
from models.vision import encode_patches


class Context:
    """The model's memory of one stream. Nothing is kept on the model, so streams do not disturb each other."""

    def __init__(self, model: StreamingQwen2VL, position_mode: PositionMode):
        self.model = model
        self.cache = FullCache(model.config.get_text_config().num_hidden_layers)
        self.positions = PositionTracker(position_mode)
        self.n_tokens = 0
        self.seen = torch.zeros(
            model.config.get_text_config().vocab_size, dtype=torch.bool, device=model.device
        )  # which tokens are in the cache, for the repetition penalty

    def fork(self) -> "Context":
        """An independent context with the same past."""
        other = Context.__new__(Context)
        other.model, other.n_tokens = self.model, self.n_tokens
        other.cache, other.positions = self.cache.fork(), self.positions.fork()
        other.seen = self.seen.clone()
        return other

    @torch.inference_mode()
    def feed(self, ids: Sequence[int], blocks: Sequence[VisualBlock] = (), features: Tensor | None = None) -> Tensor:
        """Read new tokens; return the logits [V] after the last of them.

        ids: token ids with one pad token per visual token; blocks: their grids, in order; features: [n_visual, H].
        """
        model = self.model
        pads = {"image": model.config.image_token_id, "video": model.config.video_token_id}
        new_ids = torch.tensor(ids, dtype=torch.long)
        positions = self.positions.extend(new_ids, blocks, pads)
        new_ids = new_ids.to(model.device)
        embeds = model.embed(new_ids[None], features)
        hidden = model.hidden_states(embeds, positions[:, None].to(model.device), self.cache)
        self.seen[new_ids] = True
        self.n_tokens += len(ids)
        return model.lm_head(hidden[0, -1])


@torch.inference_mode()
def encode_frames(model: StreamingQwen2VL, frames: Tensor) -> tuple[VisualBlock, Tensor]:
    """One video block of frames uint8 [T, 3, H, W] (T even) and its features [T/2 * H/28 * W/28, hidden]."""
    patches, grid_thw = cut_patches(frames)
    features = encode_patches(model.model.visual, patches.to(model.device), torch.tensor([grid_thw]))
    return VisualBlock("video", grid_thw), features
