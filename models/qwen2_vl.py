"""Qwen2-VL and Qwen2.5-VL as this project trains and streams them: the library's models, visual input and head cut to
need."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import (
    PretrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from data.samples.visual_parts import VisualPart
from models.head import VocabularyHead
from models.loss import supervised_rows
from models.packed_attention import segment_arguments
from models.vision import encode_patches, join_features


@dataclass
class TrainOutput(CausalLMOutputWithPast):
    """Losses of a batch. sample_losses: sum of each sample's token losses [S]; fresh_features: what was encoded of a
    vision cache's misses, [n, H]."""

    sample_losses: Tensor | None = None
    fresh_features: Tensor | None = None


class StreamingModel(PreTrainedModel):
    """What this project adds to the library's model of a family: explicit positions everywhere.

    Position ids are always passed in (data/samples/positions.py); the library's own index is never asked.
    """

    architecture: str  # the library's class
    use_liger = False

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__(config)
        self.lm_head = VocabularyHead.over(self.lm_head)
        # What FSDP2 gathers one by one. The library also splits the tower's blocks, through which the weights that are
        # read there do not pass (models/vision.py).
        self._no_split_modules = [type(self.model.language_model.layers[0]).__name__]

    def embed(self, input_ids: Tensor, features: Tensor | None) -> Tensor:
        """Token embeddings [B, T, H], with visual features [n, H] in the places of the pad tokens, in order."""
        embeds = self.get_input_embeddings()(input_ids)
        if features is None:
            return embeds
        pads = (input_ids == self.config.video_token_id) | (input_ids == self.config.image_token_id)
        return embeds.masked_scatter(pads[..., None], features.to(embeds.dtype))

    def hidden_states(self, embeds: Tensor, position_ids: Tensor, segments: Sequence[int] | None = None) -> Tensor:
        """Last hidden states [B, T, H] of whole sequences at positions [3, B, T].

        Right padding needs no mask: a causal row never reaches what follows it. segments: lengths of the samples
        in a packed row [1, T], each of which attends to itself alone.
        """
        return self.model.language_model(
            inputs_embeds=embeds,
            position_ids=position_ids,
            use_cache=False,
            **segment_arguments(self, segments, embeds.device),
        ).last_hidden_state

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        labels: Tensor | None = None,
        patches: Tensor | None = None,
        grid_thw: Tensor | None = None,
        segments: Sequence[int] | None = None,
        supervised: Sequence[int] | None = None,
        loss_weights: Sequence[float] | None = None,
        cached: Tensor | None = None,
        parts: Sequence[VisualPart] | None = None,
    ) -> TrainOutput:
        """One teacher-forced pass over a batch of data/loading/collate.py.

        input_ids, labels: int64 [B, T]; position_ids: int64 [3, B, T]; patches: uint8 [P, 1176]; grid_thw: int64 [n, 3]
        one row a block, in order of appearance. segments: lengths of the samples of a packed row. supervised:
        supervised tokens of each of S samples, in order; loss_weights: one for each. cached, parts: features [c, H]
        from a vision cache, and where they belong among those that the patches give (data/samples/visual_parts.py).
        With labels: the mean loss over supervised tokens, or with loss_weights the sum of each sample's losses
        times its weight; and the logits of these tokens alone [N, V] (None under Liger's fused loss). Without: the
        logits of every token [B, T, V].
        """
        features = fresh = None
        if patches is not None and len(patches):
            features = fresh = encode_patches(self.model.visual, patches, grid_thw)
        if parts is not None:
            features = join_features(fresh, cached, parts)
        hidden = self.hidden_states(self.embed(input_ids, features), position_ids, segments)
        if labels is None:
            return TrainOutput(logits=self.lm_head(hidden))
        rows, targets = supervised_rows(hidden, labels)
        if loss_weights is None:
            losses, logits = self.lm_head(rows, targets)
            loss, sums = losses.mean(), None
        else:
            sums, logits = self.lm_head(rows, targets, supervised, fused=self.use_liger)
            loss = (sums * sums.new_tensor(loss_weights)).sum()
        return TrainOutput(
            loss=loss,
            logits=logits,
            sample_losses=None if sums is None else sums.detach(),
            fresh_features=fresh if parts is not None else None,
        )

    def should_save_on_this_rank(self, is_main_process: bool) -> bool:
        """Leave it to the caller. The library (5.23) asks the first process of all alone to write the weights, so under
        --save_on_each_node the other nodes' checkpoints would have none."""
        return is_main_process

    def save_pretrained(self, folder, **kwargs) -> None:
        """Save as the plain architecture, which any library loads."""
        super().save_pretrained(folder, **kwargs)
        if kwargs.get("is_main_process", True):
            self.config.architectures = [self.architecture]
            self.config.save_pretrained(folder)


class StreamingQwen2VL(StreamingModel, Qwen2VLForConditionalGeneration):
    """An ordinary Qwen2-VL checkpoint."""

    architecture = Qwen2VLForConditionalGeneration.__name__


class StreamingQwen2_5_VL(StreamingModel, Qwen2_5_VLForConditionalGeneration):
    """An ordinary Qwen2.5-VL checkpoint."""

    architecture = Qwen2_5_VLForConditionalGeneration.__name__


STREAMING = {model.config_class.model_type: model for model in (StreamingQwen2VL, StreamingQwen2_5_VL)}
