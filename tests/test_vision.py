"""The tower over whole frames equals the library's tower, and a frozen one stays outside autograd."""

import pytest
import torch
from transformers import Qwen2VLForConditionalGeneration

from data.samples.patches import cut_patches
from models.vision import encode_patches, normalize_patches
from tests.recorder import spread

GRIDS = [[3, 4, 6], [1, 4, 6], [2, 4, 6], [1, 8, 2]]


@pytest.fixture(scope="module")
def visual(tiny_checkpoint):
    return Qwen2VLForConditionalGeneration.from_pretrained(tiny_checkpoint, dtype=torch.float32).model.visual.eval()


@pytest.fixture(scope="module")
def patches():
    n = sum(t * h * w for t, h, w in GRIDS)
    return torch.randint(0, 256, (n, 1176), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_features_equal_the_library(visual, patches):
    grid = torch.tensor(GRIDS)
    with torch.no_grad():
        expected = visual(normalize_patches(patches, torch.float32), grid).pooler_output
        ours = encode_patches(visual, patches, grid)
    assert torch.allclose(ours, expected, atol=1e-5)
    assert spread(expected) > 1e-2  # features of different places differ


def test_chunking_changes_nothing(visual, patches, monkeypatch):
    grid = torch.tensor(GRIDS)
    with torch.no_grad():
        whole = encode_patches(visual, patches, grid)
        monkeypatch.setattr("models.vision.MAX_PATCHES_AT_ONCE", 50)
        assert torch.allclose(encode_patches(visual, patches, grid), whole, atol=1e-6)


def test_patches_equal_the_library_processor():
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    frames = torch.randint(0, 256, (4, 3, 56, 84), dtype=torch.uint8)
    processor = Qwen2VLVideoProcessor(do_resize=False)  # its own statistics
    expected = processor(videos=[frames], return_tensors="pt")
    patches, grid = cut_patches(frames)
    assert list(grid) == expected["video_grid_thw"][0].tolist()
    assert torch.allclose(normalize_patches(patches, torch.float32), expected["pixel_values_videos"], atol=1e-5)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_frozen_tower_has_no_graph(visual, patches, checkpointing):
    visual.requires_grad_(False).train()
    if checkpointing:
        visual.gradient_checkpointing_enable()
    assert encode_patches(visual, patches, torch.tensor(GRIDS)).grad_fn is None
    visual.requires_grad_(True)


def test_trained_tower_gets_the_same_gradients_with_checkpointing(visual, patches):
    grid = torch.tensor(GRIDS)
    visual.requires_grad_(True).train()
    gradients = []
    for checkpointing in (False, True):
        visual.gradient_checkpointing = checkpointing
        visual.zero_grad()
        encode_patches(visual, patches, grid).square().sum().backward()
        gradients.append(visual.blocks[0].attn.qkv.weight.grad.clone())
    assert torch.allclose(*gradients, rtol=1e-5)
    visual.eval()


def test_odd_frames_are_refused():
    with pytest.raises(ValueError, match="multiples of 28"):
        cut_patches(torch.zeros(3, 3, 56, 56, dtype=torch.uint8))
