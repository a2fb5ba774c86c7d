"""Samples as the published code makes them: ids, labels, grids, frame times and patches."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from data.samples.annotations import AnnotationFile
from data.samples.checkpoint_config import load_processor
from data.samples.conversation import ChatFormat
from data.samples.encoder import SampleEncoder
from data.video.frame_plan import VideoLimits


@pytest.fixture(scope="module")
def made(any_golden, tmp_path_factory):
    """Every published sample by name, as expected and as made here under the same limits."""
    expected = json.loads((any_golden / "expected_samples.json").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        file = AnnotationFile(any_golden / "samples_with_seeks.jsonl")
    processor, _ = load_processor(any_golden / "tiny_model")
    encoder = SampleEncoder(
        ChatFormat(processor.tokenizer),
        VideoLimits.from_environment(expected["limits"]),
        "mrope",
        frame_times="end32",
    )
    assert len(file) == len(expected["names"])
    return SimpleNamespace(
        names=expected["names"],
        expected=expected["samples"],
        examples={name: encoder.encode(file[i]) for i, name in enumerate(expected["names"])},
        pixels=np.load(any_golden / "expected_pixels.npz"),
    )


@pytest.mark.parametrize("field", ["input_ids", "labels"])
def test_tokens_are_equal(made, field):
    differ = [n for n in made.names if getattr(made.examples[n], field).tolist() != made.expected[n][field]]
    assert not differ


@pytest.mark.parametrize("kind", ["video", "image"])
def test_grids_are_equal(made, kind):
    for name, example in made.examples.items():
        grids = zip(example.kinds, example.grid_thw.tolist(), strict=True)
        expected = made.expected[name].get(f"{kind}_grid_thw", [])
        assert [grid for k, grid in grids if k == kind] == expected, name


def test_texts_are_equal(made):
    for name, example in made.examples.items():
        assert example.chat_text == made.expected[name]["chat_text"], name


def test_the_same_frames_are_chosen(made):
    named = [name for name in made.names if "clip_pts" in made.expected[name]]
    assert named
    for name in named:
        times_s = np.round(made.examples[name].frame_times_s.numpy(), 6)
        np.testing.assert_array_equal(times_s, made.expected[name]["clip_pts"], name)


def test_pixels_are_close(made):
    """Within 4 grey levels: the published resize goes through float32, this one stays in uint8."""
    assert made.pixels.files
    for key in made.pixels.files:
        name = key.split("/")[0]
        ours, published = made.examples[name].patches.numpy(), made.pixels[key]
        assert ours.shape == published.shape, name
        distance = np.abs(ours.astype(int) - published)
        assert distance.max() <= 4, name
        assert distance.mean() <= 0.2, name
