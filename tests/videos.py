"""Small videos for tests, ordinary and odd, made with PyAV.

Every frame carries its number, so that a test can tell which frame it got.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

N_BITS = 10
TICKS = 600  # a second


def numbered_frame(number: int, height: int, width: int) -> np.ndarray:
    """Return RGB uint8 [H, W, 3]: `number` in black and white bars above, moving texture below."""
    frame = np.zeros((height, width, 3), np.uint8)
    edges = np.linspace(0, width, N_BITS + 1).astype(int)
    for bit in range(N_BITS):
        frame[: height // 2, edges[bit] : edges[bit + 1]] = 235 if number >> bit & 1 else 20
    rows, columns = np.mgrid[0 : height - height // 2, 0:width]
    for channel in range(3):
        wave = np.sin((columns + 3 * number) / 7 + channel) + np.cos((rows - number) / 5)
        frame[height // 2 :, :, channel] = 128 + 50 * wave
    return frame


def frame_number(frame: np.ndarray) -> int:
    """Return the number that a frame uint8 [3, H, W] carries, at any size."""
    _, height, width = frame.shape
    centres = (np.linspace(0, width, N_BITS + 1)[:-1] + width / N_BITS / 2).astype(int)
    bits = np.asarray(frame)[:, height // 4, centres].mean(0) > 128
    return int(sum(1 << bit for bit in range(N_BITS) if bits[bit]))


def make_video(
    path: str | Path,
    n_frames: int = 75,
    *,
    size_hw: tuple[int, int] = (72, 160),
    fps: int = 25,
    times_s: Sequence[float] | None = None,
    start_s: float = 0.0,
    rotation: int = 0,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    gop: int = 250,
    b_frames: int = 3,
    first: int = 0,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Write a video of numbered frames; returns its path.

    times_s: when each frame appears (variable frame rate); else n_frames at fps, from start_s on.
    rotation: degrees in the file's display matrix, counterclockwise. first: the number of the first frame.
    """
    irregular = times_s is not None or start_s != 0
    if times_s is None:
        times_s = [start_s + number / fps for number in range(n_frames)]
    x264 = {"bf": str(b_frames), "g": str(gop), "preset": "veryfast", "crf": "18", "threads": "1"}
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options={**x264, **(options or {})})
        stream.height, stream.width = size_hw
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, TICKS if irregular else fps)
        if rotation:
            stream.set_display_rotation(rotation)
        for number, time_s in enumerate(times_s, first):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number, *size_hw), format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(Fraction(time_s).limit_denominator(10**6) / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def make_sound(path: str | Path) -> Path:
    """Write a file with half a second of sound and no video."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return Path(path)


def truncate(path: Path, share: float, into: Path) -> Path:
    """Copy the first `share` of a file."""
    data = path.read_bytes()
    into.write_bytes(data[: int(len(data) * share)])
    return into


def make_faststart(path: str | Path, **arguments) -> Path:
    """Write a video whose index stands before its frames, so that it opens when it is cut short."""
    return make_video(path, container_options={"movflags": "faststart"}, **arguments)


def decode_every_frame(path: str | Path) -> tuple[np.ndarray, list[int]]:
    """Decode a file as PyAV does on its own: RGB uint8 [n, 3, H, W] and times in ticks."""
    with av.open(str(path)) as container:
        decoded = [(frame.to_ndarray(format="rgb24"), frame.pts) for frame in container.decode(video=0)]
    return np.stack([rgb.transpose(2, 0, 1) for rgb, _ in decoded]), [pts for _, pts in decoded]


def read_with_opencv(path: str | Path) -> np.ndarray:
    """Every frame as OpenCV shows them one after the other: RGB uint8 [n, 3, H, W]. It brings an FFmpeg of its own."""
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1].transpose(2, 0, 1))
    return np.stack(frames)


def packets_needed(path: str | Path, wanted: Sequence[int]) -> tuple[set[int], int]:
    """What H.264's own headers say of a group of pictures: the times of the packets that the frames at the times
    `wanted` need, from their keyframe on, and how many packets lie there that nobody needs."""
    with av.open(str(path)) as container:
        packets = [(p.pts, p.is_keyframe, _is_referred_to(bytes(p))) for p in container.demux(video=0) if p.size]
    places = [place for place, packet in enumerate(packets) if packet[0] in wanted]
    # A frame shown before the keyframe that was stored before it (an open group) needs the keyframe before that one.
    first = max(place for place in range(min(places) + 1) if packets[place][1] and packets[place][0] <= min(wanted))
    group = packets[first : max(places) + 1]
    needed = {pts for pts, _, is_referred_to in group if is_referred_to or pts in wanted}
    return needed, len(group) - len(needed)


def _is_referred_to(packet: bytes) -> bool:
    """Whether a slice of a packet of an MP4 file has nal_ref_idc above 0 (ITU-T H.264, 7.4.1)."""
    place, found = 0, False
    while place < len(packet):
        size, header = int.from_bytes(packet[place : place + 4], "big"), packet[place + 4]
        found = found or (1 <= header & 31 <= 5 and header >> 5 & 3 > 0)
        place += 4 + size
    return found
