"""Overlay of a video: what is drawn over the frame of each moment."""

from fractions import Fraction

import av

from demo.render.captions import CaptionsAt
from demo.render.commentary import FinishedCommentary
from demo.render.fonts import choose_font
from demo.render.painter import OverlayPainter, Patch
from demo.render.planes import Drawn, colours_of, stencil
from demo.render.timeline import Exchange, Layer, Words, chat_layer, word_layer

EPSILON_S = 1e-6  # times of frames and captions are rounded differently


class Picture:
    """A commentary drawn for upright frames like `frame`, whose duration_s is known."""

    def __init__(
        self,
        commentary: FinishedCommentary,
        frame: av.VideoFrame,
        pixel_aspect: Fraction,
        *,
        captions: bool,
        captions_at: CaptionsAt,
        chat: bool,
        font: str | None,
        font_size: float | None,
    ):
        self._frame, self._aspect, self._colours = frame, float(pixel_aspect), colours_of(frame)
        texts = [step.text for step in commentary.steps] * captions
        texts += [text for asked in commentary.questions for text in asked[1:]] * chat
        file = choose_font("".join(texts), font)
        self._painter = OverlayPainter(round(frame.width * self._aspect), frame.height, file, font_size)
        self._words: Layer[Words] = (
            word_layer(commentary, self._painter.text_area, captions_at) if captions else Layer([])
        )
        self._chat: Layer[Exchange] = chat_layer(commentary, self._painter.text_area) if chat else Layer([])
        self._kept: dict[int, tuple] = {}

    def at(self, time_s: float) -> list[Drawn]:
        """Drawings for the frame of a time."""
        words, exchange = (track.at(time_s + EPSILON_S) for track in (self._words, self._chat))
        return [
            *self._drawn(0, words, lambda: [self._painter.words(words)]),
            *self._drawn(1, exchange, lambda: self._painter.exchange(exchange)),
        ]

    def changes(self, after_s: float, before_s: float) -> set[float]:
        """Times between two times at which the picture changes."""
        return self._words.changes(after_s, before_s) | self._chat.changes(after_s, before_s)

    def _drawn(self, layer: int, item, paint) -> list[Drawn]:
        """Of the item that a layer shows; made once for all its frames."""
        if item is None:
            return []
        kept = self._kept.get(layer)
        if kept is None or kept[0] is not item:
            patches: list[Patch] = paint()
            self._kept[layer] = kept = item, stencil(patches, self._frame, self._colours, self._aspect)
        return kept[1]
