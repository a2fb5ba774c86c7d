"""Every kind of source, opened by its name."""

from data.sources.camera import open_camera
from data.sources.file import FileSource
from data.sources.images import ImagesSource
from data.sources.pipe import open_pipe
from data.sources.reconnection import Reconnection
from data.sources.source import Source
from data.sources.spec import SourceSpec, check_frame_times, parse_spec
from data.sources.url import open_url
from data.video.frame_plan import FrameTimes, VideoLimits
from data.video.live import FrameMaker
from utils.errors import UserError

LIVE = {"camera": open_camera, "lavfi": open_camera, "url": open_url, "pipe": open_pipe}


def open_source(
    spec: str | SourceSpec,
    *,
    limits: VideoLimits,
    frame_times: FrameTimes = "grid",
    float_resize: bool = False,
    start_s: float = 0.0,
    images_fps: float = 2.0,
    reconnection: Reconnection | None = None,
) -> Source:
    """Return the source that `spec` names (data/sources/spec.py lists the forms); it is opened with its first frame.

    frame_times, start_s: as for live_frames; "end32" needs a file, a later start a file or a folder of images.
    images_fps: of a folder.  reconnection: of a camera or URL.  Frames of a source of unknown length take the size
    that a clip of limits.max_frames would have. Raises UserError for what cannot work.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    check_frame_times(spec, frame_times)
    if spec.kind == "file":
        return FileSource(
            spec.address, limits=limits, frame_times=frame_times, float_resize=float_resize, start_s=start_s
        )
    if spec.kind == "images":
        return ImagesSource(
            spec.address, limits=limits, float_resize=float_resize, start_s=start_s, images_fps=images_fps
        )
    if start_s:
        raise UserError(f"{spec.name}: a live source starts now, not at {start_s:g} s; leave the start out")
    return LIVE[spec.kind](spec, FrameMaker(spec.name, limits, float_resize), reconnection or Reconnection())
