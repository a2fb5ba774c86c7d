"""A folder of images read as a clip: order, window, number of frames, padding, and what is wrong with a folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.video.clip import VideoError, read_packed
from data.video.frame_folder import read_frame_folder
from data.video.frame_plan import VideoLimits
from tests.videos import frame_number, numbered_frame

LIMITS = VideoLimits(min_pixels=28 * 28 * 4, total_pixels=10**7)


def fill(folder: Path, n_images: int) -> Path:
    folder.mkdir()
    for number in range(n_images):  # 9.png before 10.png, whatever the alphabet says
        Image.fromarray(numbered_frame(number, 72, 160)).save(folder / f"{number + 1}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / ".9.png").write_text("no image either")
    return folder


@pytest.mark.parametrize(
    ("n_images", "fps", "window", "expected"),
    [
        (12, 2, (None, None), list(range(12))),
        (12, 3, (None, None), [0, 2, 3, 5, 6, 8, 9, 11]),  # 4 s
        (12, 3, (1, 2), [3, 4, 5, 6]),  # both ends are inside; 4 at least
        (12, 3, (1.1, 1.9), [4, 5]),
        (12, 3, (3.5, None), [11, 11]),  # one image, made even
        (12, 3, (None, 0.5), [0, 1]),
        (3, 3, (None, None), [0, 2]),
        (7, 0.5, (None, 6), [0, 1, 2, 3]),
    ],
)
def test_frames_of_a_folder(tmp_path, n_images, fps, window, expected):
    clip = read_frame_folder(fill(tmp_path / "frames", n_images), fps, *window, limits=LIMITS)
    assert [frame_number(frame.numpy()) for frame in clip.frames] == expected
    np.testing.assert_allclose(clip.times_s, np.array(expected) / fps)
    assert clip.plan.n_padded == (len(expected) > 1 and expected[-1] == expected[-2])
    assert clip.frames.shape[1:] == (3, 84, 168)


def test_limits_hold_for_a_folder(tmp_path):
    folder = fill(tmp_path / "frames", 12)
    assert len(read_frame_folder(folder, 2, limits=VideoLimits(max_frames=6)).frames) == 6


def test_a_folder_is_read_as_a_packed_file(tmp_path):
    folder = fill(tmp_path / "frames", 9)
    encoded = [(folder / f"{number}.png").read_bytes() for number in range(1, 10)]
    (tmp_path / "packed").write_bytes(b"".join(encoded))
    pos = np.cumsum([len(image) for image in encoded]).tolist()
    packed, read = read_packed(tmp_path / "packed", pos, limits=LIMITS), read_frame_folder(folder, 2, limits=LIMITS)
    np.testing.assert_array_equal(packed.frames, read.frames)
    np.testing.assert_array_equal(packed.times_s, read.times_s)


def test_bad_folders(tmp_path):
    with pytest.raises(VideoError, match="gone: no such folder"):
        read_frame_folder(tmp_path / "gone", 3, limits=LIMITS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="holds no image"):
        read_frame_folder(tmp_path / "empty", 3, limits=LIMITS)
    folder = fill(tmp_path / "frames", 4)
    for window, message in (((9, 10), "no frame in the window"), ((2, 1), "ends before it starts")):
        with pytest.raises(VideoError, match=message):
            read_frame_folder(folder, 3, *window, limits=LIMITS)
    (folder / "3.png").write_bytes(b"no image")
    with pytest.raises(VideoError, match=r"3\.png: cannot be read as an image"):
        read_frame_folder(folder, 2, limits=LIMITS)
