"""Clips from disk: equal to decoded ones, made again when anything changed, safe under several processes."""

import multiprocessing
import os

import numpy as np
import pytest
import torch

import data.decode_cache
from data.decode_cache import DecodeCache
from data.frame_plan import VideoLimits
from data.video import VideoError, read_clip
from tests.videos import make_video
from tests.waiting import PATIENCE_S
from utils.errors import UserError

LIMITS = VideoLimits(min_pixels=28 * 28 * 4, total_pixels=10**6)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("videos") / "match.mp4", n_frames=50)


@pytest.fixture
def decoded(monkeypatch):
    """Count how often the cache decodes."""
    calls = []

    def counted(*args, **kwargs):
        calls.append(args)
        return read_clip(*args, **kwargs)

    monkeypatch.setattr(data.decode_cache, "read_clip", counted)
    return calls


def same(one, other) -> bool:
    return (
        torch.equal(one.frames, other.frames)
        and np.array_equal(one.times_s, other.times_s)
        and np.array_equal(one.plan.indices, other.plan.indices)
        and one.plan.n_padded == other.plan.n_padded
    )


def test_second_read_comes_from_disk_and_is_the_same(video, tmp_path, decoded):
    cache = DecodeCache(tmp_path / "new" / "folder")
    first = cache.read_clip(video, 0, 1.2, limits=LIMITS)
    second = DecodeCache(cache.folder).read_clip(video, 0.0, 1.2, limits=LIMITS)
    assert len(decoded) == 1
    assert same(first, second)
    assert same(second, read_clip(video, 0, 1.2, limits=LIMITS))


def test_every_part_of_the_key_counts(video, tmp_path, decoded):
    cache = DecodeCache(tmp_path)
    requests = [
        {},
        {"start_s": 0.5},
        {"end_s": 1.5},
        {"rule": "question"},
        {"frame_times": "end32"},
        {"float_resize": True},
        {"limits": VideoLimits(min_pixels=28 * 28 * 16, total_pixels=10**6)},
    ]
    for _ in range(2):
        for request in requests:
            arguments = {"limits": LIMITS, **request}
            assert same(cache.read_clip(video, **arguments), read_clip(video, **arguments))
    assert len(decoded) == len(requests)


def test_a_changed_video_is_decoded_again_in_the_same_place(tmp_path, decoded):
    cache = DecodeCache(tmp_path / "cache")
    path = make_video(tmp_path / "v.mp4", n_frames=50)
    cache.read_clip(path, limits=LIMITS)
    make_video(path, n_frames=30, size_hw=(80, 160))
    assert same(cache.read_clip(path, limits=LIMITS), read_clip(path, limits=LIMITS))
    os.utime(path, ns=(1, 1))
    cache.read_clip(path, limits=LIMITS)
    assert len(decoded) == 3
    assert len(list(cache.folder.rglob("*.clip"))) == 1


@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_a_damaged_entry_is_made_again(video, tmp_path, decoded, damage):
    cache = DecodeCache(tmp_path)
    cache.read_clip(video, limits=LIMITS)
    (entry,) = cache.folder.rglob("*.clip")
    stored = entry.read_bytes()
    entry.write_bytes({"cut": stored[:-5], "empty": b"", "noise": bytes(range(256)) * 8}[damage])
    assert same(cache.read_clip(video, limits=LIMITS), read_clip(video, limits=LIMITS))
    assert len(decoded) == 2


def test_writing_to_a_clip_leaves_the_cache_as_it_is(video, tmp_path):
    cache = DecodeCache(tmp_path)
    cache.read_clip(video, limits=LIMITS)
    clip = cache.read_clip(video, limits=LIMITS)
    before = clip.frames.clone()
    clip.frames.zero_()
    assert torch.equal(cache.read_clip(video, limits=LIMITS).frames, before)


def read_often(folder, video, results):
    torch.set_num_threads(1)  # as DataLoader does: a forked process does not have its parent's threads, and would wait
    cache = DecodeCache(folder)
    sums = {int(cache.read_clip(video, 0, end, limits=LIMITS).frames.sum()) for end in (1.0, 1.0, 1.0)}
    results.put(sums)


def test_several_processes_fill_it_at_once(video, tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=read_often, args=(tmp_path, video, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    sums = [results.get(timeout=PATIENCE_S) for _ in workers]
    for worker in workers:
        worker.join(PATIENCE_S)
    assert len(set.union(*sums)) == 1
    assert not list(tmp_path.rglob("*.partial"))


def test_errors(video, tmp_path, monkeypatch):
    cache = DecodeCache(tmp_path / "cache")
    with pytest.raises(VideoError, match=r"gone\.mp4"):
        cache.read_clip(tmp_path / "gone.mp4", limits=LIMITS)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="decode cache"):
        DecodeCache(tmp_path / "file")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data.decode_cache, "_write", full)
    with pytest.raises(UserError, match="No space left on device"):
        cache.read_clip(video, limits=LIMITS)
    assert not list(cache.folder.rglob("*.partial"))
