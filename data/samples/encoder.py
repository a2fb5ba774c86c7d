"""Encoder: one sample -> model inputs (token ids, labels, positions and patches)."""

import hashlib
import os
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from data.samples.annotations import Sample
from data.samples.conversation import ChatFormat, Encoded, Turn, VisualBlock, stream_turns
from data.samples.elements import ImageElement, Message, TextElement, VideoElement
from data.samples.families import QWEN2_VL, Family
from data.samples.media import Media, image_of, video_of
from data.samples.patches import PATCH, TEMPORAL, cut_patches, noise_like
from data.samples.positions import PositionMode, position_ids
from data.samples.questions import questions_by_step
from data.samples.vision_cache import KeptClip, VisionCache
from data.samples.visual_parts import VisualPart
from data.samples.words import SILENCE, cut_trailing_silence, step_slices, words_by_step
from data.video.clip import Rule, VideoError, read_clip, read_image
from data.video.decode_cache import DecodeCache
from data.video.frame_plan import FPS, FRAME_FACTOR, Clip, FrameTimes, VideoLimits

# A sample is refused where so large a share of its words, and so many, lie outside of its clip: they are another's.
MAX_OUTSIDE, MANY_OUTSIDE = 0.2, 4
PATCH_VALUES = 3 * TEMPORAL * PATCH * PATCH  # grey levels in one patch


@dataclass
class Example:
    """A sample as the model takes it. T tokens, N visual blocks, P patches, F frames.

    input_ids, labels: int64 [T]; position_ids: int64 [3, T]; patches: uint8 [P, 1176], grey levels; grid_thw:
    int64 [N, 3] in patches, in order of appearance (images have t = 1); kinds: "image" or "video" of each
    block; frame_times_s: float64 [F], every frame chosen from videos, those after a stream's last word
    included; counts: what was spoken, left out and cut; source: number of its annotation file; where: its FILE:LINE.
    With a vision cache, parts are the clips and images in order, patches only what it does not have, and features,
    uint8 [n, bytes a visual token], what it has (None: nothing).
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    patches: torch.Tensor
    grid_thw: torch.Tensor
    kinds: list[str]
    frame_times_s: torch.Tensor
    chat_text: str
    counts: dict[str, int]
    source: int = 0
    where: str = ""
    parts: list[VisualPart] | None = None
    features: torch.Tensor | None = None


@dataclass
class _Visual:
    """A clip or image of a sample: its frames' times, and its frames, decoded only where the cache lacks them.

    frames: uint8 [T, 3, H, W], T even; frame_s: seconds that each stands for; made_of: what its features depend on,
    empty without a vision cache.
    """

    times_s: Sequence[float] | np.ndarray
    frame_s: float
    frames: Callable[[], torch.Tensor]
    made_of: dict[str, Any] = field(default_factory=dict)
    kept: KeptClip | None = None


@dataclass
class _Pixels:
    """Patches, kept features and frame times of a sample, gathered in order of appearance."""

    dtype: torch.dtype | None = None  # of the vision cache's features; None without one
    patches: list[torch.Tensor] = field(default_factory=list)
    features: list[torch.Tensor] = field(default_factory=list)
    parts: list[VisualPart] = field(default_factory=list)
    frame_times_s: list[float] = field(default_factory=list)

    def add(self, visual: _Visual, n_frames: int) -> tuple[int, int, int]:
        """Keep the first n_frames as patches, or their features where they are known; returns their grid."""
        t, kept = n_frames // TEMPORAL, visual.kept
        features = kept.features(t) if kept else None
        if kept and features is not None:
            grid_thw = (t, *kept.grid_thw[1:])
            self.features.append(features)
        else:
            patches, grid_thw = cut_patches(visual.frames()[:n_frames])
            self.patches.append(patches)
        if self.dtype is not None:
            times_s = tuple(map(float, visual.times_s))
            self.parts.append(
                VisualPart(grid_thw, features is not None, self.dtype, visual.made_of, times_s, visual.frame_s)
            )
        return grid_thw


class SampleEncoder:
    """Encodes samples for one checkpoint. Can be pickled into workers.

    limits: sizes and number of frames; position_mode, family: those of the checkpoint; with_context: title and
    earlier speech join the query; max_length in tokens; blind: frames are replaced by noise that depends on the
    sample alone, the control experiment for what a model learns without sight.
    """

    def __init__(
        self,
        chat: ChatFormat,
        limits: VideoLimits,
        position_mode: PositionMode,
        with_context: bool = False,
        frame_times: FrameTimes = "grid",
        max_length: int = 32768,
        decode_cache: DecodeCache | None = None,
        blind: bool = False,
        vision_cache: VisionCache | None = None,
        family: Family = QWEN2_VL,
    ):
        self.chat, self.limits, self.position_mode = chat, limits, position_mode
        self.with_context, self.frame_times, self.max_length = with_context, frame_times, max_length
        self.decode_cache, self.blind, self.vision_cache = decode_cache, blind, vision_cache
        self.family = family

    def encode(self, sample: Sample) -> Example:
        """Read a sample's videos and images and write its conversation.

        Raises AnnotationError, its cause one of missing_file, broken_video, no_words, words_outside_clip,
        too_long.
        """
        pixels = _Pixels(self.vision_cache.dtype if self.vision_cache else None)
        if sample.is_stream:
            turns, counts = self._stream(sample, pixels)
        else:
            turns, counts = [self._turn(sample, message, pixels) for message in sample.messages], Counter()
        encoded = self.chat.encode(turns)
        if len(encoded.input_ids) > self.max_length:
            raise sample.error(
                f"{len(encoded.input_ids)} tokens, over the limit of {self.max_length}; shorten the sample, "
                "lower VIDEO_MAX_PIXELS or FPS_MAX_FRAMES, or raise --max_length",
                cause="too_long",
            )
        return self._example(sample, turns, encoded, pixels, counts)

    def _stream(self, sample: Sample, pixels: _Pixels) -> tuple[list[Turn], Counter]:
        clip = self._read(sample, sample.video, "stream")
        slices = step_slices(len(clip.times_s))
        ends_s = [float(clip.times_s[piece.stop - 1]) for piece in slices]
        start_s = sample.video.video_start or 0.0
        texts, counts = words_by_step(sample.words.words, ends_s, start_s)
        asked, question_counts = questions_by_step(sample.words.questions, float(clip.times_s[0]), len(texts), start_s)
        spoken = cut_trailing_silence(texts)
        self._check_spoken(sample, counts, clip.times_s, bool(asked))
        # What is asked is about all that was seen by then, the silence included.
        n_steps = len(texts) if sample.questions else max([len(spoken), *(step + 1 for step in asked)])
        texts, used = texts[:n_steps], slices[:n_steps]
        _, h, w = pixels.add(clip, used[-1].stop)
        pixels.frame_times_s += map(float, clip.times_s)
        step = self.family.time_step(1 / FPS)  # as it is streamed
        blocks = [VisualBlock("video", ((piece.stop - piece.start) // TEMPORAL, h, w), step) for piece in used]
        counts.update(
            steps=len(used), silent_steps=texts.count(SILENCE), frames=len(clip.times_s), frames_used=used[-1].stop
        )
        if sample.words.questions:
            counts.update(question_counts)
        system = [self._turn(sample, message, pixels) for message in sample.messages if message.role == "system"]
        at_the_end = [self._turn(sample, message, pixels) for message in sample.questions]
        query = sample.query
        turns = system + stream_turns(blocks, texts, self.query_text(query), asked) + at_the_end
        if self.with_context and query.previous:
            n_over = len(self.chat.encode(turns).input_ids) - self.max_length
            if n_over > 0:
                text, counts["previous_words_cut"] = self._shortened_query(query, n_over)
                turns = system + stream_turns(blocks, texts, text, asked) + at_the_end
        return turns, counts

    def query_text(self, query: TextElement, previous: str | None = None) -> str:
        """A stream's query; with context, title or earlier speech (`previous` replaces it) follow."""
        if not self.with_context:
            return query.text
        title = "" if query.previous else query.title
        return f"{query.text}\n{title}\n{query.previous if previous is None else previous}".strip()

    def _shortened_query(self, query: TextElement, n_over: int) -> tuple[str, int]:
        """The query with the fewest words lost from the start of the earlier speech, and their number."""
        budget = len(self.chat.text_ids(self.query_text(query))) - n_over
        starts = [word.start() for word in re.finditer(r"\S+", query.previous)] + [len(query.previous)]
        texts = [self.query_text(query, query.previous[start:]) for start in starts]
        n_lost = bisect_left(texts, True, key=lambda text: len(self.chat.text_ids(text)) <= budget)
        n_lost = min(n_lost, len(texts) - 1)
        return texts[n_lost], n_lost

    def _check_spoken(
        self, sample: Sample, counts: Counter, times_s: Sequence[float] | np.ndarray, is_asked: bool
    ) -> None:
        """Raise AnnotationError where nothing is spoken, or where words and picture hardly meet."""
        words, n_outside = sample.words.words, counts["outside"]
        if len(times_s) >= self.limits.max_frames // FRAME_FACTOR * FRAME_FACTOR and counts["spoken"]:
            n_outside = counts["before"]  # what is said after the most frames that a clip may have is no error
        many = n_outside >= MANY_OUTSIDE and n_outside > MAX_OUTSIDE * (counts["spoken"] + n_outside)
        if many or (n_outside and not counts["spoken"]):
            start_s = sample.video.video_start or 0.0
            raise sample.error(
                f"{n_outside} of {counts['spoken'] + n_outside} words lie outside the clip, which runs from "
                f"{start_s:g} s to {times_s[-1]:.2f} s (words from {words[0].start_s} s to {words[-1].end_s} s); at "
                f"most {MAX_OUTSIDE:.0%} may. Times count from the video's start: where they count from video_start, "
                f"add it, and where the file is a section of a video, take off where it begins",
                cause="words_outside_clip",
            )
        if not counts["spoken"] and not is_asked:
            raise sample.error("its words are only dots or blanks; remove the sample", cause="no_words")

    def _turn(self, sample: Sample, message: Message, pixels: _Pixels) -> Turn:
        parts: list[str | VisualBlock] = []
        for element in message.elements:
            if isinstance(element, TextElement):
                parts.append(element.text)
            elif isinstance(element, ImageElement):
                image = self._visual(sample, image_of(sample, element, read_image), "broken_image")
                parts.append(VisualBlock("image", pixels.add(image, TEMPORAL)))
            elif isinstance(element, VideoElement):
                clip = self._read(sample, element, "question")
                pixels.frame_times_s += map(float, clip.times_s)
                step = self.family.time_step(clip.frame_s)
                parts.append(VisualBlock("video", pixels.add(clip, len(clip.times_s)), step))
        return Turn(message.role, parts)

    def _read(self, sample: Sample, element: VideoElement, rule: Rule) -> _Visual:
        read = self.decode_cache.read_clip if self.decode_cache else read_clip
        options: dict[str, Any] = {"limits": self.limits, "rule": rule, "frame_times": self.frame_times, "read": read}
        return self._visual(sample, video_of(sample, element, **options), "broken_video")

    def _visual(self, sample: Sample, media: Media, cause: str) -> _Visual:
        """A clip or image, decoded at once unless the vision cache knows it. Raises AnnotationError of `cause`."""

        def decode() -> Clip:
            with _errors_of(sample, cause):
                return media.read()

        made_of: dict[str, Any] = {}
        if self.vision_cache:
            with _errors_of(sample, cause):
                made_of = self.vision_cache.made_of(media.path, media.request())
            kept = self.vision_cache.find(made_of)
            if kept:
                return _Visual(kept.times_s, kept.frame_s, lambda: decode().frames, made_of, kept)
        clip = decode()
        return _Visual(clip.times_s, clip.plan.frame_s, lambda: clip.frames, made_of)

    def _example(
        self, sample: Sample, turns: list[Turn], encoded: Encoded, pixels: _Pixels, counts: Counter
    ) -> Example:
        input_ids = torch.tensor(encoded.input_ids)
        pad_ids = {"image": self.chat.image_pad, "video": self.chat.video_pad}
        patches = torch.cat(pixels.patches) if pixels.patches else torch.empty(0, PATCH_VALUES, dtype=torch.uint8)
        grids = [block.grid_thw for block in encoded.blocks]
        return Example(
            input_ids=input_ids,
            labels=torch.tensor(encoded.labels),
            position_ids=position_ids(input_ids, encoded.blocks, self.position_mode, pad_ids),
            patches=_noise(sample, patches) if self.blind else patches,
            grid_thw=torch.tensor(grids, dtype=torch.int64).reshape(-1, 3),
            kinds=[block.kind for block in encoded.blocks],
            frame_times_s=torch.tensor(pixels.frame_times_s, dtype=torch.float64),
            chat_text=self.chat.chat_text(turns),
            counts=dict(counts),
            parts=pixels.parts if self.vision_cache else None,
            features=torch.cat(pixels.features) if pixels.features else None,
        )


@contextmanager
def _errors_of(sample: Sample, cause: str) -> Iterator[None]:
    """Raise what is wrong with a file as an error of the sample that shows it."""
    try:
        yield
    except VideoError as error:
        raise sample.error(str(error), cause=cause) from error


def _noise(sample: Sample, patches: torch.Tensor) -> torch.Tensor:
    """Grey levels without content, the same whenever this sample is read, wherever its file lies."""
    identity = f"{os.path.basename(sample.path)}:{sample.index}".encode()
    seed = int.from_bytes(hashlib.sha256(identity).digest()[:7], "big")
    return noise_like(patches, seed)
