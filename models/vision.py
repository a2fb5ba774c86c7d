"""Patches -> visual features: the vision tower run over whole frames at once.

B frames of one size, N patches a frame, C channels, D = C / heads.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from data.samples.patches import MERGE
from data.samples.visual_parts import VisualPart

# CLIP's statistics, in every Qwen2-VL preprocessor_config.json.
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
# Patches that go through the tower together without gradients: bounds the memory of a four-minute clip.
MAX_PATCHES_AT_ONCE = 1 << 16


def normalize_patches(patches: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 [P, 3*2*14*14] grey levels -> [P, 1176] as the tower was trained to read them."""
    mean = torch.tensor(IMAGE_MEAN, device=patches.device).view(1, 3, 1) * 255
    std = torch.tensor(IMAGE_STD, device=patches.device).view(1, 3, 1) * 255
    planes = patches.view(len(patches), 3, -1).float()
    return ((planes - mean) / std).to(dtype).view(len(patches), -1)


def encode_patches(visual: nn.Module, patches: Tensor, grid_thw: Tensor) -> Tensor:
    """Visual features of all blocks, in order: uint8 [P, 1176], int64 [n, 3] -> [P / 4, hidden].

    The same numbers as the library's tower, which attends within each frame one after the other; here all frames of
    one size attend in one batch. A frozen tower runs outside autograd, whatever gradient checkpointing wants.
    """
    trained = torch.is_grad_enabled() and any(p.requires_grad for p in visual.parameters())
    with torch.set_grad_enabled(trained):
        runs = [_encode_run(visual, *run) for run in _same_size_runs(patches, grid_thw, trained)]
        return torch.cat(runs)


def join_features(fresh: Tensor | None, cached: Tensor | None, parts: Sequence[VisualPart]) -> Tensor | None:
    """Features [n, hidden] of all parts in order, None without any: what was encoded now, and what a cache kept."""
    if fresh is None or cached is None:
        return cached if fresh is None else fresh
    kept, taken, pieces = {True: cached, False: fresh}, {True: 0, False: 0}, []
    for part in parts:
        start = taken[part.is_cached]
        taken[part.is_cached] += part.n_tokens
        pieces.append(kept[part.is_cached][start : taken[part.is_cached]])
    return torch.cat([piece.to(fresh.dtype) for piece in pieces])


def _same_size_runs(patches: Tensor, grid_thw: Tensor, trained: bool) -> Iterator[tuple[Tensor, int, int]]:
    """Consecutive frames of equal size as (patches [B*N, 1176], h, w), cut to MAX_PATCHES_AT_ONCE without gradients."""
    frames: list[list[int]] = []
    for t, h, w in grid_thw.tolist():
        if frames and frames[-1][1:] == [h, w]:
            frames[-1][0] += t
        else:
            frames.append([t, h, w])
    at = 0
    for n_frames, h, w in frames:
        most = n_frames if trained else max(1, MAX_PATCHES_AT_ONCE // (h * w))
        for start in range(0, n_frames, most):
            n = min(most, n_frames - start) * h * w
            yield patches[at : at + n], h, w
            at += n


def _encode_run(visual: nn.Module, patches: Tensor, h: int, w: int) -> Tensor:
    weight = visual.patch_embed.proj.weight
    # The convolution's kernel is its stride, so it is one matrix product.
    hidden = F.linear(normalize_patches(patches, weight.dtype), weight.flatten(1))
    hidden = hidden.view(-1, h * w, hidden.shape[-1])
    rotation = _rotation(visual, h, w, hidden.device)
    checkpointed = visual.training and visual.gradient_checkpointing and torch.is_grad_enabled()
    whole = getattr(visual, "fullatt_block_indexes", range(len(visual.blocks)))
    windows = None if len(whole) == len(visual.blocks) else _windows(visual, h, w, hidden.device)
    for number, block in enumerate(visual.blocks):
        seen = None if number in whole else windows
        if checkpointed:
            hidden = checkpoint(_block, block, hidden, rotation, seen, use_reentrant=False)
        else:
            hidden = _block(block, hidden, rotation, seen)
    return visual.merger(hidden.flatten(0, 1))


def _block(
    block: nn.Module, hidden_BNC: Tensor, rotation: tuple[Tensor, Tensor], windows: list[Tensor] | None
) -> Tensor:
    batch, n, channels = hidden_BNC.shape
    qkv = block.attn.qkv(block.norm1(hidden_BNC)).view(batch, n, 3, block.attn.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each [B, heads, N, D]
    attended = _attend(_rotate(query, rotation), _rotate(key, rotation), value, windows)
    hidden_BNC = hidden_BNC + block.attn.proj(attended.transpose(1, 2).reshape(batch, n, channels))
    return hidden_BNC + block.mlp(block.norm2(hidden_BNC))


def _attend(query: Tensor, key: Tensor, value: Tensor, windows: list[Tensor] | None) -> Tensor:
    """Attention of patches [B, heads, N, D] to all of their frame, or to those in their window alone."""
    if windows is None:
        return F.scaled_dot_product_attention(query, key, value)
    attended = torch.empty_like(query)
    for index in windows:  # [windows, patches]: those of one size
        states = (part[:, :, index].transpose(1, 2) for part in (query, key, value))  # [B, windows, heads, patches, D]
        attended[:, :, index] = F.scaled_dot_product_attention(*states).transpose(1, 2)
    return attended


def _windows(visual: nn.Module, h: int, w: int, device: torch.device) -> list[Tensor]:
    """The windows of a frame: for each of at most four sizes, the patches of each window, int64 [windows, patches].

    Square, cut off at the frame's right and bottom edges; patches count in the order in which they merge 2 x 2.
    """
    side = visual.window_size // (visual.patch_size * MERGE)
    tokens = torch.arange(h * w // MERGE**2, device=device).view(h // MERGE, w // MERGE)
    windows: dict[tuple[int, ...], list[Tensor]] = {}
    for window in (window for rows in tokens.split(side) for window in rows.split(side, dim=1)):
        patches = window.reshape(-1, 1) * MERGE**2 + torch.arange(MERGE**2, device=device)
        windows.setdefault(tuple(window.shape), []).append(patches.flatten())
    return [torch.stack(same) for same in windows.values()]


def _rotation(visual: nn.Module, h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin [N, D] of each patch's row and column, in the order in which patches merge 2 x 2."""
    head_dim = visual.patch_embed.proj.out_channels // visual.config.num_heads
    frequencies = 10000.0 ** (-torch.arange(0, head_dim // 2, 2, device=device).float() / (head_dim // 2))
    rows, columns = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
    angles = []
    for axis in (rows, columns):
        merged = axis.view(h // MERGE, MERGE, w // MERGE, MERGE).transpose(1, 2).flatten()
        angles.append(merged[:, None] * frequencies)
    angle = torch.cat(angles * 2, dim=-1)
    return angle.cos(), angle.sin()


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotation
    first, second = x.float().chunk(2, dim=-1)
    return (x * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)
