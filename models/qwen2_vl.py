"""Qwen2-VL as this project trains and streams it: the library's model, its visual input and head cut to need."""

from torch import Tensor
from transformers import Qwen2VLForConditionalGeneration
from transformers.modeling_outputs import CausalLMOutputWithPast

from models.loss import fused_mean_loss, supervised_rows, token_losses
from models.vision import encode_patches


class StreamingQwen2VL(Qwen2VLForConditionalGeneration):
    """An ordinary Qwen2-VL checkpoint with explicit positions everywhere.

    Position ids are always passed in (models/positions.py); the library's own index is never asked.
    """

    use_liger = False

    def embed(self, input_ids: Tensor, features: Tensor | None) -> Tensor:
        """Token embeddings [B, T, H], with visual features [n, H] in the places of the pad tokens, in order."""
        embeds = self.get_input_embeddings()(input_ids)
        if features is None:
            return embeds
        pads = (input_ids == self.config.video_token_id) | (input_ids == self.config.image_token_id)
        return embeds.masked_scatter(pads[..., None], features.to(embeds.dtype))

    def hidden_states(self, embeds: Tensor, position_ids: Tensor) -> Tensor:
        """Last hidden states [B, T, H] of whole sequences at positions [3, B, T].

        Right padding needs no mask: a causal row never reaches what follows it.
        """
        return self.model.language_model(
            inputs_embeds=embeds, position_ids=position_ids, use_cache=False
        ).last_hidden_state

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        labels: Tensor | None = None,
        patches: Tensor | None = None,
        grid_thw: Tensor | None = None,
    ) -> CausalLMOutputWithPast:
        """One teacher-forced pass over a batch of data/collate.py.

        input_ids, labels: int64 [B, T]; position_ids: int64 [3, B, T]; patches: uint8 [P, 1176]; grid_thw: int64 [n, 3]
        one row a block, in order of appearance.
        With labels: the mean loss over supervised tokens, and their logits alone [N, V] (None under Liger's fused
        loss). Without: the logits of every token [B, T, V].
        """
        features = None
        if patches is not None and len(patches):
            features = encode_patches(self.model.visual, patches, grid_thw)
        hidden = self.hidden_states(self.embed(input_ids, features), position_ids)
        if labels is None:
            return CausalLMOutputWithPast(logits=self.lm_head(hidden))
        rows, targets = supervised_rows(hidden, labels)
        if self.use_liger:
            return CausalLMOutputWithPast(loss=fused_mean_loss(rows, self.lm_head.weight, targets))
        losses, logits = token_losses(rows, self.lm_head.weight, targets)
        return CausalLMOutputWithPast(loss=losses.mean(), logits=logits)

    def should_save_on_this_rank(self, is_main_process: bool) -> bool:
        """Whoever calls decides. The library (5.23) asks the first process of all alone to write the weights, so under
        --save_on_each_node the other nodes' checkpoints would have none."""
        return is_main_process

    def save_pretrained(self, folder, **kwargs) -> None:
        """Save as the plain architecture, which any library loads."""
        super().save_pretrained(folder, **kwargs)
        if kwargs.get("is_main_process", True):
            self.config.architectures = ["Qwen2VLForConditionalGeneration"]
            self.config.save_pretrained(folder)
