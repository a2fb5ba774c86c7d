"""Liger's Triton operations in one model: modules exchanged for ones that hold the same parameters.

B samples, T tokens, H hidden, D head dimension. Each operation is put in by a function of its own, and into the
model given alone: no class or module of the library is rebound. Parameter names stay what they were, so checkpoints
and optimizers do not notice. The fused loss is in models/loss.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2MLP, Qwen2VLAttention, eager_attention_forward


@dataclass(frozen=True)
class Operations:
    """The four operations that modules are built on; each is differentiable and works on a GPU's tensors."""

    rms_norm: Callable[[Tensor, Tensor, float], Tensor]  # rows [..., H], weight [H], eps
    silu_mul: Callable[[Tensor, Tensor], Tensor]  # silu(gate) * up
    rotate: Callable[[Tensor, Tensor, Tensor, Tensor, list[int]], tuple[Tensor, Tensor]]
    # queries and keys [B, heads, T, D], cos and sin [3, B, T, D], sections of D / 2 per axis
    layer_norm: Callable[[Tensor, Tensor, Tensor, float], Tensor]  # rows [..., H], weight [H], bias [H], eps


def liger_operations() -> Operations:
    """Liger's own operations. Raises ImportError where liger_kernel or Triton is not installed."""
    from liger_kernel.ops.layer_norm import LigerLayerNormFunction
    from liger_kernel.ops.qwen2vl_mrope import LigerQwen2VLMRopeFunction
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    # "llama": only the root mean square is computed in float32, as Qwen2-VL's own norm does. True: the gradient may
    # be written over, since nothing but the norm receives it.
    return Operations(
        rms_norm=lambda rows, weight, eps: LigerRMSNormFunction.apply(rows, weight, eps, 0.0, "llama", True),
        silu_mul=LigerSiLUMulFunction.apply,
        rotate=LigerQwen2VLMRopeFunction.apply,
        layer_norm=LigerLayerNormFunction.apply,
    )


def why_not_liger(device: torch.device) -> str | None:
    """Why Liger's operations cannot run here, or None where they can."""
    if device.type != "cuda":
        return f"Liger's Triton operations need an NVIDIA or AMD GPU; this run is on {device.type}"
    try:
        liger_operations()
        import liger_kernel.transformers  # noqa: F401  # the fused loss
    except (ImportError, AttributeError, RuntimeError, OSError) as error:  # what a Triton without a compiler raises
        return f"liger_kernel cannot be imported ({error}); pip install liger-kernel"
    return None


def exchange_all(model: nn.Module, operations: Operations) -> None:
    """Exchange all modules of a Qwen2-VL or Qwen2.5-VL model for which there is an operation."""
    exchange_rms_norms(model, operations)
    exchange_mlps(model, operations)
    exchange_rotations(model, operations)
    exchange_layer_norms(model, operations)


def exchange_rms_norms(model: nn.Module, operations: Operations) -> None:
    """Exchange the norms of the text model."""
    text = model.model.language_model
    text.norm = FusedRMSNorm(text.norm, operations)
    for layer in text.layers:
        layer.input_layernorm = FusedRMSNorm(layer.input_layernorm, operations)
        layer.post_attention_layernorm = FusedRMSNorm(layer.post_attention_layernorm, operations)


def exchange_mlps(model: nn.Module, operations: Operations) -> None:
    """Exchange the SwiGLU MLPs of the text model, unless their activation is another one."""
    for layer in model.model.language_model.layers:
        if layer.mlp.config.hidden_act in ("silu", "swish"):
            layer.mlp = FusedMLP(layer.mlp, operations)


def exchange_rotations(model: nn.Module, operations: Operations) -> None:
    """Exchange multimodal RoPE, unless its frequencies change with the length (a checkpoint extended by YaRN, say)."""
    text = model.model.language_model
    rope = text.config.rope_parameters
    if rope["rope_type"] != "default":
        return
    text.rotary_emb = AxisRotations(text.rotary_emb)
    for layer in text.layers:
        layer.self_attn = FusedAttention(layer.self_attn, operations, list(rope["mrope_section"]))


def exchange_layer_norms(model: nn.Module, operations: Operations) -> None:
    """Exchange the norms of the vision tower and its merger, which are RMSNorms in Qwen2.5-VL."""
    tower = model.model.visual
    fused = FusedLayerNorm if isinstance(tower.merger.ln_q, nn.LayerNorm) else FusedRMSNorm
    for block in tower.blocks:
        block.norm1, block.norm2 = fused(block.norm1, operations), fused(block.norm2, operations)
    tower.merger.ln_q = fused(tower.merger.ln_q, operations)


class FusedRMSNorm(nn.Module):
    """RMSNorm in one kernel, on the weight of another norm."""

    def __init__(self, norm: nn.Module, operations: Operations) -> None:
        super().__init__()
        self.weight, self.variance_epsilon, self.operation = norm.weight, norm.variance_epsilon, operations.rms_norm

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., H] -> [..., H]."""
        return self.operation(hidden, self.weight, self.variance_epsilon)


class FusedLayerNorm(nn.Module):
    """LayerNorm in one kernel, on the weight and bias of another norm."""

    def __init__(self, norm: nn.LayerNorm, operations: Operations) -> None:
        super().__init__()
        self.weight, self.bias, self.eps, self.operation = norm.weight, norm.bias, norm.eps, operations.layer_norm

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., H] -> [..., H]."""
        return self.operation(hidden, self.weight, self.bias, self.eps)


class FusedMLP(Qwen2MLP):
    """SwiGLU whose activation and product are one kernel, on the projections of another MLP."""

    def __init__(self, mlp: Qwen2MLP, operations: Operations) -> None:
        with torch.device("meta"):
            super().__init__(mlp.config)
        self.gate_proj, self.up_proj, self.down_proj = mlp.gate_proj, mlp.up_proj, mlp.down_proj
        self.operation = operations.silu_mul
        self.train(mlp.training)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., H] -> [..., H]."""
        return self.down_proj(self.operation(self.gate_proj(hidden), self.up_proj(hidden)))


class AxisRotations(nn.Module):
    """Rotations on each of the three axes; the attention's kernel picks the axis of each dimension itself."""

    def __init__(self, rotary: nn.Module) -> None:
        super().__init__()
        self.register_buffer("inv_freq", rotary.inv_freq, persistent=False)  # [D / 2]
        self.attention_scaling = rotary.attention_scaling

    @torch.no_grad()
    def forward(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """cos and sin [3, B, T, D] in the dtype of `hidden`, for positions int64 [3, B, T]."""
        angle = positions[..., None].float() * self.inv_freq.float()
        angle = torch.cat((angle, angle), dim=-1)
        cos, sin = angle.cos() * self.attention_scaling, angle.sin() * self.attention_scaling
        return cos.to(hidden.dtype), sin.to(hidden.dtype)


class FusedAttention(Qwen2VLAttention):
    """Attention that rotates queries and keys in one kernel, on the projections of another attention."""

    def __init__(self, attention: Qwen2VLAttention, operations: Operations, sections: list[int]) -> None:
        with torch.device("meta"):
            super().__init__(attention.config, attention.layer_idx)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, getattr(attention, name))
        self.operation, self.sections = operations.rotate, sections
        self.train(attention.training)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values=None,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        **kwargs,
    ) -> tuple[Tensor, Tensor | None]:
        """The library's computation with cos and sin [3, B, T, D] of AxisRotations; hidden [B, T, H] -> [B, T, H]."""
        shape = (*hidden_states.shape[:2], -1, self.head_dim)
        query, key, value = (
            projection(hidden_states).view(shape).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = self.operation(query, key, *position_embeddings, self.sections)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        attended, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            position_ids=position_ids,
            **kwargs,
        )
        return self.o_proj(attended.reshape(*hidden_states.shape[:2], -1).contiguous()), weights
