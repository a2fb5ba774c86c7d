"""Frames as players show them: turned and mirrored, in square pixels, with light that a screen has."""

from fractions import Fraction

import av
import numpy as np
import pytest

from data.video.clip import VideoFile, live_frames
from data.video.frame_plan import VideoLimits
from data.video.hdr import HLG, PQ, tone_map
from data.video.pixels import Orientation
from tests.videos import decode_every_frame, make_video

LIMITS = VideoLimits(min_pixels=784, max_pixels=64 * 784)
MATRICES = {  # a, b, c, d of x' = a x + c y, y' = b x + d y, and what numpy makes of it
    "as stored": ((1, 0, 0, 1), lambda rgb: rgb),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "half a turn": ((-1, 0, 0, -1), lambda rgb: np.rot90(rgb, 2)),
    "a quarter clockwise": ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, -1)),
    "a quarter counterclockwise": ((0, -1, 1, 0), np.rot90),
    "transposed": ((0, 1, 1, 0), lambda rgb: rgb.swapaxes(0, 1)),
    "transposed and turned": ((0, -1, -1, 0), lambda rgb: np.rot90(rgb, 2).swapaxes(0, 1)),
}


def with_matrix(path, abcd) -> None:
    """Write a display matrix over that of an MP4 file's track: 16.16 fixed point, 40 bytes into its header."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in abcd)
    matrix = [a, b, 0, c, d, 0, 0, 0, 1 << 30]
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)


@pytest.mark.parametrize("name", MATRICES)
def test_every_display_matrix(tmp_path, name):
    path = make_video(tmp_path / "gedreht.mp4", 5)
    stored = decode_every_frame(path)[0].transpose(0, 2, 3, 1)
    abcd, shown = MATRICES[name]
    with_matrix(path, abcd)
    expected = np.stack([shown(rgb) for rgb in stored]).transpose(0, 3, 1, 2)
    with VideoFile(path) as video:
        assert video.size_hw == expected.shape[2:]
        assert np.array_equal(video.read(np.arange(5)).numpy(), expected)


def test_an_orientation_of_planes():
    picture = np.arange(6).reshape(2, 3)
    assert Orientation(True, False, True).turn(picture).tolist() == [[3, 0], [4, 1], [5, 2]]


@pytest.mark.parametrize(
    ("pixel_aspect", "turns", "shown_hw"),
    [("32:27", 0, (72, 190)), ("8:9", 0, (72, 142)), ("1:1", 0, (72, 160)), ("32:27", 90, (190, 72))],
)
def test_pixels_that_are_not_square(tmp_path, pixel_aspect, turns, shown_hw):
    path = make_video(tmp_path / "breit.mp4", 5, options={"aspect": "1"}, rotation=turns)
    squeezed = tmp_path / "gequetscht.mp4"
    with av.open(str(path)) as read, av.open(str(squeezed), "w") as written:
        source = read.streams.video[0]
        source.codec_context.sample_aspect_ratio = Fraction(pixel_aspect.replace(":", "/"))
        stream = written.add_stream_from_template(source)
        stream.sample_aspect_ratio = Fraction(pixel_aspect.replace(":", "/"))
        if turns:
            stream.set_display_rotation(turns)
        for packet in read.demux(source):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    with av.open(str(squeezed)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(pixel_aspect.replace(":", "/"))
    with VideoFile(squeezed) as video:
        assert video.size_hw == shown_hw and video.read(np.array([0])).shape[2:] == shown_hw
    frame = next(live_frames(squeezed, limits=LIMITS)).frame
    assert frame.shape[1:] == LIMITS.size_hw(*shown_hw, 2)


def test_light_as_the_standards_have_it():
    """Signals and light of ITU-R BT.2408, table 1: reference white of 203 cd/m2 is 58 % of PQ and 75 % of HLG."""
    signals = np.array([[0.0, 0.38, 0.508, 0.58, 0.752], [0.0, 0.38, 0.43, 0.75, 1.0]])
    for transfer, row in ((PQ, signals[0]), (HLG, signals[1])):
        grey = np.repeat(np.round(row * 65535).astype(np.uint16)[None, :, None], 3, 2)
        shown = tone_map(grey, transfer)[0].astype(int)
        assert (np.ptp(shown, axis=1) <= 1).all(), "grey stays grey"
        assert shown[0, 0] == 0 and shown[3, 0] == pytest.approx(249, abs=2) and 249 < shown[4, 0] <= 255
        assert (np.diff(shown[:, 0]) > 0).all()
    hundred = tone_map(np.full((1, 1, 3), round(0.508 * 65535), np.uint16), PQ)[0, 0, 0]
    assert int(hundred) == pytest.approx(255 * (100 / 203) ** (1 / 2.4), abs=2)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_a_film_of_high_dynamic_range_has_the_colours_of_a_standard_one(tmp_path, transfer):
    """A picture of known colours, brought to BT.2020 and the transfer function by the standards' own formulas."""
    levels = np.array([[190, 0, 0], [0, 190, 0], [0, 0, 190], [190, 190, 0], [102, 102, 102], [190, 190, 190]])
    light = (levels / 255) ** 2.4 * 203  # cd/m2
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    wide = np.maximum(light @ to_2020.T, 0)
    if transfer == PQ:
        power = (wide / 10000) ** (2610 / 16384)
        signal = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    else:
        luma = wide @ np.array([0.2627, 0.678, 0.0593])
        scene = wide / 1000 * np.maximum(luma / 1000, 1e-9)[:, None] ** (1 / 1.2 - 1)
        log = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), log)
    rgb = np.repeat(np.repeat(signal, 16, 0)[None], 32, 0)
    luma = rgb @ np.array([0.2627, 0.678, 0.0593])
    planes = [64 + 876 * luma, 512 + 896 * (rgb[..., 2] - luma) / 1.8814, 512 + 896 * (rgb[..., 0] - luma) / 1.4746]
    path = tmp_path / "hell.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"crf": "1", "threads": "1"})
        (stream.height, stream.width), stream.pix_fmt = rgb.shape[:2], "yuv444p10le"
        coder = stream.codec_context
        coder.colorspace, coder.color_primaries, coder.color_trc, coder.color_range = 9, 9, transfer, 1
        for number in range(3):
            frame = av.VideoFrame(stream.width, stream.height, "yuv444p10le")
            for plane, values in zip(frame.planes, planes, strict=True):
                rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
                rows[:, : plane.width] = np.round(values)
                plane.update(rows.tobytes())
            frame.pts, frame.colorspace, frame.color_primaries = number, 9, 9
            frame.color_trc, frame.color_range = transfer, 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with VideoFile(path) as video:
        shown = video.read(np.array([1]))[0].numpy()[:, 16, 8::16].T
    assert np.abs(shown.astype(int) - levels).max() <= 25 and np.abs(shown.astype(int) - levels).mean() < 5, shown
