"""Clips from disk: equal to decoded ones, made again when anything changed, safe under several processes."""

import itertools
import multiprocessing
import os

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

import data.video.decode_cache
import data.video.tensor_file
from data.video.clip import VideoError, read_clip
from data.video.decode_cache import DecodeCache
from data.video.frame_plan import VideoLimits
from tests.videos import frame_number, make_video
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

    monkeypatch.setattr(data.video.decode_cache, "read_clip", counted)
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
        {"end_s": 1.4},
        {"rule": "question"},
        {"frame_times": "end32"},
        {"float_resize": True},
        {"limits": VideoLimits(min_pixels=28 * 28 * 32, total_pixels=10**6)},
        {"limits": VideoLimits(min_pixels=28 * 28 * 4, total_pixels=28 * 28 * 4)},
        {"limits": VideoLimits(min_pixels=28 * 28 * 4, total_pixels=10**6, max_frames=2)},
        {"limits": VideoLimits(min_pixels=28 * 28 * 4, total_pixels=10**6, max_pixels=28 * 28 * 12)},
    ]
    plain = [read_clip(video, **{"limits": LIMITS, **request}) for request in requests]
    assert not any(same(one, other) for one, other in itertools.combinations(plain, 2))
    for _ in range(2):
        for request, expected in zip(requests, plain, strict=True):
            assert same(cache.read_clip(video, **{"limits": LIMITS, **request}), expected)
    assert len(decoded) == len(requests)


def test_two_videos_of_one_name_size_and_time_are_told_apart(tmp_path, decoded):
    cache, paths = DecodeCache(tmp_path / "cache"), []
    for number in (0, 300):
        folder = tmp_path / f"Spiel ä{number}"
        folder.mkdir()
        paths.append(make_video(folder / "größe.mp4", n_frames=30, first=number))
    largest = max(path.stat().st_size for path in paths)
    for path in paths:
        add_free_space(path, largest + 8 - path.stat().st_size)
        os.utime(path, ns=(1, 1))
    assert len({path.stat().st_size for path in paths}) == 1
    for _ in range(2):
        read = [cache.read_clip(path, limits=LIMITS) for path in paths]
        assert [frame_number(clip.frames[0].numpy()) for clip in read] == [0, 300]
    assert len(decoded) == 2


def add_free_space(path, n_bytes: int) -> None:
    """Lengthen an MP4 file by a box that means nothing (ISO/IEC 14496-12, 8.1.2)."""
    with open(path, "ab") as file:
        file.write(n_bytes.to_bytes(4, "big") + b"free" + bytes(n_bytes - 8))


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


OLDER = (20).to_bytes(8, "little") + b'{"shape": [2, 3, 4]}' + bytes(300)  # a header and bare bytes


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "older"])
def test_a_damaged_entry_is_made_again(video, tmp_path, decoded, damage):
    cache = DecodeCache(tmp_path)
    cache.read_clip(video, limits=LIMITS)
    (entry,) = cache.folder.rglob("*.clip")
    stored = entry.read_bytes()
    entry.write_bytes({"cut": stored[:-5], "empty": b"", "noise": bytes(range(256)) * 8, "older": OLDER}[damage])
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

    def full(tensors, path, metadata):
        path.write_bytes(b"the beginning")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(data.video.tensor_file, "save_file", full)
    with pytest.raises(UserError, match="No space left on device"):
        cache.read_clip(video, limits=LIMITS)
    assert not list(cache.folder.rglob("*.partial"))
