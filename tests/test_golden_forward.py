"""The published code's numbers: positions, loss, log-probability of every label, and the streams token by token."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data.samples.conversation import VisualBlock
from data.samples.positions import position_ids
from data.video.clip import live_frames, read_clip
from data.video.frame_plan import VideoLimits
from models.load import load_checkpoint
from models.loss import supervised_rows, token_losses
from models.streaming.options import StreamOptions
from models.streaming.session import StreamingSession, comment

SAMPLES = ["no_window_bikes", "video_qa", "image", "text_only", "system_message"]


@pytest.fixture(scope="module")
def checkpoint(any_golden):
    return load_checkpoint(any_golden / "tiny_model", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def expected(any_golden):
    samples = json.loads((any_golden / "expected_samples.json").read_text())["samples"]
    losses = json.loads((any_golden / "expected_forward.json").read_text())
    return SimpleNamespace(
        samples=samples,
        losses=losses,
        arrays=np.load(any_golden / "expected_forward.npz"),
        pixels=np.load(any_golden / "expected_pixels.npz"),
        streams=json.loads((any_golden / "expected_stream.json").read_text()),
    )


def inputs_of(name, expected, checkpoint):
    """A sample's published inputs as the model takes them."""
    sample = expected.samples[name]
    kind = "image" if "image_grid_thw" in sample else "video"
    grids = sample.get(f"{kind}_grid_thw", [])
    ids = torch.tensor(sample["input_ids"])
    pads = {"image": checkpoint.chat.image_pad, "video": checkpoint.chat.video_pad}
    blocks = [VisualBlock(kind, tuple(grid)) for grid in grids]
    positions = position_ids(ids, blocks, "mrope", pads)
    keys = [key for key in expected.pixels if key.startswith(f"{name}/")]
    return {
        "input_ids": ids[None],
        "position_ids": positions[:, None],
        "labels": torch.tensor(sample["labels"])[None],
        "patches": torch.from_numpy(expected.pixels[keys[0]]) if keys else None,
        "grid_thw": torch.tensor(grids) if grids else None,
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_loss_and_label_probabilities(name, expected, checkpoint):
    inputs = inputs_of(name, expected, checkpoint)
    assert np.array_equal(inputs["position_ids"][:, 0], expected.arrays[f"{name}/position_ids"])
    with torch.no_grad():
        output = checkpoint.model(**inputs)
    targets = inputs["labels"][inputs["labels"] != -100]
    logprob = output.logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert abs(float(output.loss) - expected.losses[name]["loss"]) < 1e-3
    assert np.allclose(logprob, expected.arrays[f"{name}/label_logprob"], atol=1e-3)


def test_gradients_with_a_frozen_tower(any_golden, expected, checkpoint):
    published = json.loads((any_golden / "expected_forward.json").read_text())["no_window_bikes"]
    inputs = inputs_of("no_window_bikes", expected, checkpoint)
    model = checkpoint.model
    model.model.visual.requires_grad_(False)
    model(**inputs).loss.backward()
    assert all(p.grad is None for p in model.model.visual.parameters())
    total = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    assert float(total) == pytest.approx(published["grad_norm_total"], rel=1e-3)
    for name, norm in published["grad_norms"].items():
        ours = model.get_parameter(name.replace("model.", "model.language_model.", 1)).grad.norm()
        assert float(ours) == pytest.approx(norm, rel=1e-3)
    model.zero_grad()


def test_only_supervised_rows_meet_the_head():
    hidden, labels = torch.randn(2, 5, 8), torch.tensor([[-100, 1, -100, 2, -100], [-100, -100, -100, -100, 3]])
    rows, targets = supervised_rows(hidden, labels)
    assert torch.equal(rows, torch.stack([hidden[0, 0], hidden[0, 2], hidden[1, 3]]))
    assert targets.tolist() == [1, 2, 3]
    losses, logits = token_losses(rows, torch.randn(6, 8), targets)
    assert losses.shape == (3,) and logits.shape == (3, 6)


def check_stream(steps, published):
    for step, call in zip(steps, published, strict=True):
        assert step.token_ids == call["new_ids"]


def test_evaluation_stream(any_golden, expected, checkpoint):
    """The published evaluation loop: frames spread by the question rule, and positions `livecc`."""
    published = expected.streams["eval_bikes_full"]
    arguments = published["args"]
    options = StreamOptions(
        query=arguments["query"],
        max_new_tokens=arguments["max_new_tokens"],
        repetition_penalty=arguments["repetition_penalty"],
        compat="livecc",
    )
    clip = read_clip(any_golden / arguments["video"], limits=VideoLimits(), rule="question", float_resize=True)
    source = [SimpleNamespace(time_s=i / 2, frame=frame) for i, frame in enumerate(clip.frames)]
    steps = list(comment(StreamingSession(checkpoint, options), source))
    check_stream(steps, published["calls"])
    assert [[s.start_s, s.end_s, s.text] for s in steps] == published["responses"]


def test_live_stream(any_golden, expected, checkpoint):
    """The published demo loop: frames by end time, small pictures."""
    published = expected.streams["live_bikes_small"]
    arguments = published["args"]
    limits = VideoLimits(max_pixels=arguments["max_pixels"])
    options = StreamOptions(query=arguments["message"], max_new_tokens=16, repetition_penalty=1.05, compat="livecc")
    source = live_frames(any_golden / arguments["video"], limits=limits, frame_times="end32", float_resize=True)
    session = StreamingSession(checkpoint, options)
    steps = list(comment(session, source))
    check_stream(steps, published["calls"])
    assert [[s.start_s, s.end_s] for s in steps] == [window for _, window, _ in published["out"]]
    assert [s.text for s in steps] == [text for _, _, text in published["out"]]
    assert session.state.n_tokens == published["final_past_len"]
