"""Kept features: the same losses without decoding or encoding, and nothing used that is not what it should be."""

import json
import logging
import os
import sys

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import data.samples.encoder
import models.qwen2_vl
import train
from data.loading.collate import collate, pack
from data.loading.dataset import AnnotationDataset, SampleEncoder
from data.samples.vision_cache import VisionCache
from data.video.frame_plan import VideoLimits
from models.load import load_checkpoint
from models.packed_attention import use_packed_attention
from models.training.vision_cache import tower_fingerprint
from tests.samples import stream, talk, write_media, write_samples
from tests.videos import make_video, numbered_frame
from utils.errors import UserError

SAMPLES = [stream(0), talk(1, "pitch.png", "pitch.png"), talk(2), talk(3, "short.mp4", "pitch.png", "match.mp4")]
LIMITS = VideoLimits(min_pixels=784, total_pixels=31360)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    checkpoint = load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32")
    checkpoint.model.model.visual.requires_grad_(False)
    use_packed_attention(checkpoint.model)
    return checkpoint


@pytest.fixture
def media(tmp_path):
    folder = write_media(tmp_path / "media")
    write_samples(folder / "all.jsonl", SAMPLES)
    return folder


class Reads:
    """What was decoded, in order, by this process and by the workers that it forks."""

    def __init__(self, log):
        self.log = log
        self.clear()

    def clear(self) -> None:
        self.log.write_text("")

    def add(self, path) -> None:
        with open(self.log, "a") as log:
            log.write(f"{os.getpid()} {os.path.basename(path)}\n")

    @property
    def names(self) -> list[str]:
        return [line.split(" ", 1)[1] for line in self.log.read_text().splitlines()]

    @property
    def processes(self) -> set[int]:
        return {int(line.split()[0]) for line in self.log.read_text().splitlines()}


@pytest.fixture
def reads(monkeypatch, tmp_path):
    """The files that were decoded."""
    seen = Reads(tmp_path / "reads.log")
    for name in ("read_clip", "read_image"):
        original = getattr(data.samples.encoder, name)

        def counted(path, *args, original=original, **options):
            seen.add(path)
            return original(path, *args, **options)

        monkeypatch.setattr(data.samples.encoder, name, counted)
    return seen


def open_cache(checkpoint, folder, **options) -> VisionCache:
    tower = tower_fingerprint(checkpoint.model.model.visual)
    return VisionCache(folder, **{"tower": tower, "dtype": torch.float32, "hidden": 64, **options})


def open_dataset(checkpoint, media, cache=None, **options) -> AnnotationDataset:
    encoder = SampleEncoder(checkpoint.chat, LIMITS, checkpoint.position_mode, vision_cache=cache, **options)
    return AnnotationDataset([media / "all.jsonl"], encoder)


def loss_of(checkpoint, batch, cache=None) -> float:
    """A batch's loss; what was encoded is kept."""
    batch = {name: value for name, value in batch.items() if name != "sources"}
    output = checkpoint.model.eval()(**batch)
    if cache and output.fresh_features is not None:
        cache.store(batch["parts"], output.fresh_features)
    return float(output.loss.detach())


def fill(checkpoint, media, cache) -> list[float]:
    dataset = open_dataset(checkpoint, media, cache)
    return [loss_of(checkpoint, collate([dataset[i]], 0), cache) for i in range(len(dataset))]


def entries(folder) -> list:
    return sorted(folder.rglob("*.features"))


def test_losses_are_the_same_and_a_hit_neither_decodes_nor_encodes(checkpoint, media, tmp_path, reads, monkeypatch):
    plain = fill(checkpoint, media, None)
    cache = open_cache(checkpoint, tmp_path / "new" / "cache")
    first = fill(checkpoint, media, cache)
    assert first == plain and len(entries(cache.folder)) == 4  # match.mp4 by both rules, short.mp4, pitch.png
    reads.clear()
    monkeypatch.setattr(models.qwen2_vl, "encode_patches", lambda *_: pytest.fail("encoded"))
    again = fill(checkpoint, media, open_cache(checkpoint, tmp_path / "new" / "cache"))
    assert again == pytest.approx(plain, rel=1e-6) and reads.names == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_features_come_back_bit_for_bit_in_the_dtype_of_the_computation(checkpoint, media, tmp_path, dtype):
    cache = open_cache(checkpoint, tmp_path, dtype=dtype)
    example = open_dataset(checkpoint, media, cache)[1]
    (part, _), features = example.parts, torch.randn(12, 64).to(dtype)
    cache.store(example.parts, features)
    assert part.n_tokens == 6 and example.features is None and len(example.patches) == 48
    batch = collate([open_dataset(checkpoint, media, cache)[1]], 0)
    # One picture twice: both of its places hold what was written last.
    assert batch["cached"].dtype == dtype and torch.equal(batch["cached"], features[6:].repeat(2, 1))
    assert len(batch["patches"]) == 0 and len(batch["grid_thw"]) == 0


def test_hits_and_misses_mix_in_a_sample_and_in_a_row(checkpoint, media, tmp_path, reads):
    plain = open_dataset(checkpoint, media)
    expected = loss_of(checkpoint, pack([plain[i] for i in range(4)]))
    cache = open_cache(checkpoint, tmp_path / "cache")
    dataset = open_dataset(checkpoint, media, cache)
    loss_of(checkpoint, collate([dataset[1]], 0), cache)  # the picture alone
    reads.clear()
    row = pack([dataset[i] for i in range(4)])
    assert sorted(reads.names) == ["match.mp4", "match.mp4", "short.mp4"]
    assert [part.is_cached for part in row["parts"]] == [False, True, True, False, True, False]
    assert loss_of(checkpoint, row) == pytest.approx(expected, rel=1e-6)


def test_gradients_are_the_same(checkpoint, media, tmp_path):
    cache, gradients = open_cache(checkpoint, tmp_path / "cache"), []
    fill(checkpoint, media, cache)
    for kept in (None, cache):
        dataset = open_dataset(checkpoint, media, kept)
        batch = pack([dataset[i] for i in range(4)])
        del batch["sources"]
        checkpoint.model.zero_grad()
        checkpoint.model.train()(**batch).loss.backward()
        gradients.append({n: p.grad.clone() for n, p in checkpoint.model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], rtol=1e-4, atol=1e-6), name


def test_a_longer_transcript_of_the_same_clip_is_decoded_again(checkpoint, media, tmp_path, reads):
    cache = open_cache(checkpoint, tmp_path / "cache")
    longer = stream(0, 5)
    longer[1]["content"][0]["text_stream"].append([3.2, 3.6, "late"])  # in the second step, which frames are then for
    write_samples(media / "all.jsonl", [stream(0, 2), longer])
    short = open_dataset(checkpoint, media, cache)[0]
    loss_of(checkpoint, collate([short], 0), cache)
    reads.clear()
    long = open_dataset(checkpoint, media, cache)[1]
    kept_again = open_dataset(checkpoint, media, cache)[0]
    grids = [example.parts[0].grid_thw[0] for example in (short, long, kept_again)]
    assert grids[0] < grids[1] and grids[0] == grids[2] and reads.names == ["match.mp4"]
    assert not long.parts[0].is_cached and kept_again.parts[0].is_cached
    loss_of(checkpoint, collate([long], 0), cache)
    assert len(entries(cache.folder)) == 1
    shorter = open_dataset(checkpoint, media, cache)[0]
    assert torch.equal(shorter.features, kept_again.features)


def change_video(media, checkpoint, cache):
    make_video(media / "match.mp4", 90)


def touch_video(media, checkpoint, cache):
    os.utime(media / "match.mp4", ns=(1, 1))


def tear(media, checkpoint, cache):
    for entry in entries(cache.folder):
        entry.write_bytes(entry.read_bytes()[:-5])


def flip_a_byte(media, checkpoint, cache):
    for entry in entries(cache.folder):
        contents = bytearray(entry.read_bytes())
        contents[-20] ^= 64
        entry.write_bytes(contents)


def empty(media, checkpoint, cache):
    for entry in entries(cache.folder):
        entry.write_bytes(b"")


def garble(media, checkpoint, cache):
    for entry in entries(cache.folder):
        entry.write_bytes(bytes(range(256)) * 4)


def write_as_before(media, checkpoint, cache):
    """An older form: a header and bare bytes."""
    for entry in entries(cache.folder):
        entry.write_bytes((28).to_bytes(8, "little") + b'{"made_of": {}, "crc32": 0} ' + bytes(28 + 256))


@pytest.mark.parametrize("change", [change_video, touch_video, tear, flip_a_byte, empty, garble, write_as_before])
def test_what_changed_or_is_damaged_is_not_used(checkpoint, media, tmp_path, reads, change):
    write_samples(media / "all.jsonl", [stream(0)])
    cache = open_cache(checkpoint, tmp_path / "cache")
    fill(checkpoint, media, cache)
    change(media, checkpoint, cache)
    reads.clear()
    expected = fill(checkpoint, media, None)
    assert fill(checkpoint, media, cache) == expected and reads.names == ["match.mp4"] * 2
    assert fill(checkpoint, media, cache) == pytest.approx(expected, rel=1e-6) and len(reads.names) == 2
    assert len(entries(cache.folder)) == 1 and not list(cache.folder.rglob("*.partial"))


def shown(video: str | dict, rule: str) -> list:
    """A sample that shows a video or a part of it, read by a rule."""
    sample = stream(0) if rule == "stream" else talk(0, "match.mp4")
    sample[0]["content"][0] = {"type": "video", **({"video": video} if isinstance(video, str) else video)}
    return sample


def test_every_window_rule_and_file_has_its_own_features(checkpoint, media, tmp_path, reads):
    make_video(media / "spätes Spiel.mp4", 100, first=300)
    parts = [{"video_start": 0.0, "video_end": 3.4}, {"video_start": 0.3, "video_end": 3.4}]
    parts += [{"video_start": 0.3, "video_end": 1.9}, {"video_end": 1.9}, {"video_start": 0.6}]
    samples = [shown({"video": "match.mp4", **part}, rule) for part in parts for rule in ("stream", "question")]
    samples += [shown("match.mp4", "question"), shown("spätes Spiel.mp4", "stream")]
    ends = np.cumsum([len(jpeg) for jpeg in pack_jpegs(media / "packed", 8)]).tolist()
    samples += [shown({"video": "packed", "pos": pos}, "question") for pos in (ends, ends[1:5])]
    write_samples(media / "all.jsonl", samples)
    plain = fill(checkpoint, media, None)
    assert len(set(plain)) == len(samples), "each shows something else"
    cache = open_cache(checkpoint, tmp_path / "cache")
    assert fill(checkpoint, media, cache) == plain and len(entries(cache.folder)) == len(samples)
    reads.clear()
    assert fill(checkpoint, media, cache) == pytest.approx(plain, rel=1e-6) and reads.names == []


def pack_jpegs(path, n_frames: int) -> list[bytes]:
    """Write JPEGs one after the other."""
    jpegs = []
    for number in range(n_frames):
        jpegs.append(cv2.imencode(".jpg", numbered_frame(number, 56, 84))[1].tobytes())
    path.write_bytes(b"".join(jpegs))
    return jpegs


def test_every_part_of_the_request_counts(checkpoint, media, tmp_path, reads):
    write_samples(media / "all.jsonl", [stream(0)])
    cache = open_cache(checkpoint, tmp_path / "cache")
    fill(checkpoint, media, cache)
    reads.clear()
    limits = [VideoLimits(784, 20000), VideoLimits(7840, 31360), VideoLimits(784, 31360, max_frames=4)]
    others = [
        open_dataset(checkpoint, media, cache, frame_times="end32"),
        open_dataset(checkpoint, media, open_cache(checkpoint, tmp_path / "cache", tower="another")),
        open_dataset(checkpoint, media, open_cache(checkpoint, tmp_path / "cache", dtype=torch.half)),
        *(
            AnnotationDataset([media / "all.jsonl"], SampleEncoder(checkpoint.chat, other, "mrope", vision_cache=cache))
            for other in limits
        ),
    ]
    for other in others:
        assert not other[0].parts[0].is_cached
    assert len(reads.names) == len(others)
    sequential = SampleEncoder(checkpoint.chat, LIMITS, "sequential", vision_cache=cache)
    assert AnnotationDataset([media / "all.jsonl"], sequential)[0].parts[0].is_cached  # positions change no feature


def flip_the_lowest_bit(weight: torch.Tensor) -> None:
    weight.view(torch.int32).view(-1)[-1] ^= 1


def swap_the_first_rows(weight: torch.Tensor) -> None:
    weight[:2] = weight[:2].flip(0).clone()


@pytest.mark.parametrize("change", [flip_the_lowest_bit, swap_the_first_rows])
def test_one_changed_weight_is_another_tower(checkpoint, change):
    tower = checkpoint.model.model.visual
    before = tower_fingerprint(tower)
    for name in ("patch_embed.proj.weight", "blocks.1.mlp.fc2.weight", "blocks.0.norm1.bias", "merger.mlp.2.weight"):
        weight = tower.get_parameter(name).data
        if change is swap_the_first_rows and not weight.any():
            continue  # a fresh bias
        kept = weight.clone()
        change(weight)
        changed = tower_fingerprint(tower)
        weight.copy_(kept)
        assert changed != before == tower_fingerprint(tower), name


def test_towers_whose_folders_have_one_name_are_told_apart(checkpoint, media, tmp_path):
    write_samples(media / "all.jsonl", [stream(0)])
    caches = [open_cache(checkpoint, tmp_path / "cache", tower=16 * "a" + end) for end in "bc"]
    fill(checkpoint, media, caches[0])
    assert caches[0].folder == caches[1].folder
    found = [open_dataset(checkpoint, media, cache)[0].parts[0].is_cached for cache in caches]
    assert found == [True, False]


def test_growth_is_bounded(checkpoint, media, tmp_path, caplog):
    write_samples(media / "all.jsonl", SAMPLES)
    whole = open_cache(checkpoint, tmp_path / "whole")
    fill(checkpoint, media, whole)
    sizes = [entry.stat().st_size for entry in entries(whole.folder)]
    limit = sum(sizes) * 0.6
    cache = open_cache(checkpoint, tmp_path / "small", max_gb=limit / 1e9)
    for _ in range(2):
        fill(checkpoint, media, cache)
    assert 0 < sum(entry.stat().st_size for entry in entries(cache.folder)) < limit + 2000  # headers
    assert caplog.text.count("no more is kept") == 1
    again = open_cache(checkpoint, tmp_path / "small", max_gb=limit / 1e9)
    n_before = len(entries(again.folder))
    fill(checkpoint, media, again)
    assert len(entries(again.folder)) <= n_before + 1


def test_a_full_disk_is_an_error_that_says_so(checkpoint, media, tmp_path, monkeypatch):
    cache = open_cache(checkpoint, tmp_path / "cache")
    fill(checkpoint, media, None)  # the index beside the annotations is written once

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"vision cache .* MB cannot be written: No space left"):
        fill(checkpoint, media, cache)
    assert not list(cache.folder.rglob("*.partial"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="vision cache"):
        open_cache(checkpoint, tmp_path / "file")


# Through train.py


@pytest.fixture
def run(tiny_checkpoint, media, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEO_MIN_PIXELS", "784")
    monkeypatch.setenv("VIDEO_MAX_PIXELS", "31360")

    def run_train(name, *flags, model=tiny_checkpoint) -> list[float]:
        paths = ["--annotation_paths", media / "all.jsonl", "--output_dir", tmp_path / name]
        words = [
            "train.py",
            "--pretrained_model_name_or_path",
            model,
            *paths,
            "--logging_steps",
            1,
            "--report_to",
            "none",
        ]
        words += [
            "--learning_rate",
            1e-3,
            "--max_steps",
            6,
            "--save_steps",
            3,
            "--per_device_train_batch_size",
            1,
            *flags,
        ]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        train.main()
        lines = map(json.loads, (tmp_path / name / "train_log.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if "loss" in line]

    return run_train


def test_training_with_the_cache_gives_the_same_losses(run, tmp_path, reads, caplog):
    frozen = ["--freeze_modules", "visual"]
    cached = [*frozen, "--vision_cache", tmp_path / "cache"]
    plain = run("plain", *frozen, "--dataloader_num_workers", 2)
    assert len(reads.names) >= 6 and os.getpid() not in reads.processes and len(reads.processes) == 2
    caplog.set_level(logging.INFO)
    assert run("filling", *cached) == pytest.approx(plain, rel=1e-5)
    assert "256 bytes a visual token, so 6 MB for a clip of 24576 tokens" in caplog.text
    reads.clear()
    assert run("filled", *cached) == pytest.approx(plain, rel=1e-5) and reads.names == []
    packed = ["--max_tokens_per_batch", 400, "--max_length", 400]
    with_worker = run("worker", *cached, *packed, "--dataloader_num_workers", 2)
    assert with_worker == run("packed", *cached, *packed) and reads.names == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], r"--vision_cache keeps features of a tower and merger that do not change.*--freeze_modules visual"),
        (["--freeze_modules", "merger"], "--freeze_modules visual"),
        (["--freeze_modules", "visual", "--blind", "True"], "features of noise"),
        (["--freeze_modules", "visual", "--vision_cache_gb", "0"], "must be above 0"),
    ],
)
def test_a_tower_that_changes_is_refused(run, tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        run("refused", "--vision_cache", tmp_path / "cache", *flags)


def test_a_resumed_run_with_another_tower_is_refused(run, tiny_checkpoint, tmp_path):
    flags = ["--freeze_modules", "visual", "--vision_cache", tmp_path / "cache"]
    run("run", *flags, "--max_steps", 3)
    other = tmp_path / "other"
    other.mkdir()
    for file in tiny_checkpoint.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    weights = load_file(other / "model.safetensors")
    name = next(name for name in weights if name.endswith("visual.blocks.0.mlp.fc1.weight"))
    weights[name] = weights[name] + 0.01
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="another vision tower"):
        run("run", *flags, model=other)
