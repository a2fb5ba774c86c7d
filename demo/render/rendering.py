"""Rendering of one video: its frames drawn on and encoded, the sound beside them."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av

from data.video.container import (
    VideoError,
    decode_all,
    decode_packet,
    list_frames,
    next_packet,
    open_video,
    video_stream,
)
from data.video.file_clock import FileClock
from data.video.pixels import orientation
from demo.render.captions import spoken_times
from demo.render.commentary import FinishedCommentary
from demo.render.frames import FrameWriter, UprightFrames
from demo.render.picture import Picture
from demo.render.sound import open_sounds
from demo.render.speech import SpeechLine, open_engine, spoken_lines

log = logging.getLogger(__name__)

LATE_S = 2.0  # a question at the end is dated by a last step that may pass the video's end


class Rendering:
    """A video file and what is to be shown on it; options: RenderOptions of demo/render/video.py.

    Raises UserError where the file is no video, a font or a voice is not there.
    """

    def __init__(self, path: Path, commentary: FinishedCommentary, options):
        self.path, self.options = path, options
        frame = first_frame(path)
        self._first = UprightFrames()(frame)
        self._source = open_video(path)
        try:
            self._video = video_stream(self._source)
            self._video.thread_type = "AUTO"
            self._pixel_aspect = _upright_aspect(self._video, frame)
            self.commentary = shown_part(commentary, end_s(path, self._source, self._video), path)
            self._speak = None if options.speech == "none" else open_engine(options.speech, options.voice)
            self._picture = Picture(
                self.commentary, self._first, self._pixel_aspect, captions=options.captions, chat=options.chat,
                captions_at=options.captions_at, font=options.font, font_size=options.font_size,
            )  # fmt: skip
        except BaseException:
            self._source.close()
            raise

    def __enter__(self) -> "Rendering":
        return self

    def __exit__(self, *exception) -> None:
        self._source.close()

    def run(self, out: Path, progress) -> None:
        """Write the file; progress(frames written, frames in all as far as known)."""
        upright, decoder, n_all = UprightFrames(), self._video.codec_context, self._n_frames()
        # Where a track begins later than the other, MP4 states it in units of the whole file's: the frames' own here.
        options = {"movflags": "+faststart", "movie_timescale": str(max(1000, self._video.time_base.denominator))}
        with av.open(str(out.absolute()), "w", format="mp4", options=options) as container:
            writer = FrameWriter(
                container, self._video, self._first, self._pixel_aspect, self._picture, self.options.crf
            )
            tracks = [stream for stream in self._source.streams.audio if stream.codec_context is not None]
            sounds = open_sounds(container, tracks, self.path, self._lines())
            by_index = {source.index: sound for source, sound in sounds if source is not None}
            for packet in self._packets(tracks):
                if packet is not None and packet.stream.index in by_index:
                    by_index[packet.stream.index].feed(packet)
                    continue
                for frame in decode_packet(decoder, packet, self.path):
                    time_s = writer.write(upright(frame))
                    for _, sound in sounds:
                        sound.advance(time_s)
                    progress(writer.n_written, max(n_all, writer.n_written))
            writer.finish(self.commentary.duration_s)
            for _, sound in sounds:
                sound.finish(self.commentary.duration_s)
        progress(writer.n_written, writer.n_written)

    def _packets(self, tracks: list[av.AudioStream]) -> Iterator[av.Packet | None]:
        """The packets of video and sound as they lie in the file; None at the end, to drain the video's decoder."""
        packets = FileClock(self._source, self.path).packets(self._video, *tracks)
        while (packet := next_packet(packets, self.path)) is not None:
            if packet.size:
                yield packet
        yield None

    def _lines(self) -> Iterator[SpeechLine] | None:
        if self._speak is None:
            return None
        return spoken_lines(spoken_times(self.commentary, self.options.captions_at), self._speak)

    def _n_frames(self) -> int:
        return self._video.frames or round(self.commentary.duration_s * float(self._video.average_rate or 25))


def first_frame(path: Path) -> av.VideoFrame:
    """The first frame of a file. Raises VideoError where none can be decoded."""
    with open_video(path) as container:
        for frame in decode_all(container, path):
            return frame
    raise VideoError(f"{path}: no frame can be decoded; the file is truncated or damaged")


def shown_part(commentary: FinishedCommentary, duration_s: float, path: Path) -> FinishedCommentary:
    """Part of a commentary that belongs to a video of that duration; a warning says what begins behind its end."""
    steps = [step for step in commentary.steps if step.start_s < duration_s]
    questions = [asked for asked in commentary.questions if asked.asked_s <= duration_s + LATE_S]
    n_lost = len(commentary.steps) + len(commentary.questions) - len(steps) - len(questions)
    if n_lost:
        log.warning(
            "%s ends at %.1f s: %d steps and questions of the commentary are later and left out; is it this video's?",
            path, duration_s, n_lost,
        )  # fmt: skip
    return replace(commentary, steps=steps, questions=questions, duration_s=duration_s)


def end_s(path: Path, container: av.container.InputContainer, video: av.VideoStream) -> float:
    """End of the last frame on the file's clock."""
    clock = FileClock(container, path)
    if clock.may_jump or not (video.duration or container.duration):  # what it states need not be what it plays
        return list_frames(path).table.last_s
    if video.duration:
        return float((video.duration + (video.start_time or 0)) * video.time_base - clock.zero_s)
    return container.duration / av.time_base


def _upright_aspect(video: av.VideoStream, frame: av.VideoFrame) -> Fraction:
    """Width of a pixel over its height once the frame stands upright."""
    aspect = video.sample_aspect_ratio or Fraction(1)
    return 1 / aspect if orientation(frame).transposed else aspect
