"""Captions and chat bubbles as pictures with transparency (Pillow), sized for a frame."""

import unicodedata
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont, features

from demo.render.captions import LINE_COLUMNS, MOST_LINES
from demo.render.fonts import open_font
from demo.render.timeline import Exchange, TextArea, Words

SMOOTH = 4  # boxes are drawn so many times as large: Pillow's corners are not antialiased
LINE_HEIGHT = 1.28  # in font sizes, as all lengths below that are not shares of the frame
SIDE_MARGIN = 0.06  # shares of the frame that stay free: the old title-safe area, and room for players' buttons
TOP_MARGIN, BOTTOM_MARGIN, PORTRAIT_BOTTOM_MARGIN = 0.06, 0.07, 0.14
BUBBLE_FONT = 0.82  # of the captions' font
WHITE, SPOKEN_BEFORE, BLACK, NEAR_BLACK = (255, 255, 255), (205, 205, 205), (0, 0, 0), (28, 28, 30)
QUESTION_BOX, ANSWER_BOX = (10, 110, 230), (240, 240, 245)
CAPTION_BOX_ALPHA, BUBBLE_ALPHA = 0.68, 0.93

Rgb = tuple[int, int, int]


class Patch(NamedTuple):
    """A picture, RGBA, and where its upper left corner lies on the frame."""

    x: int
    y: int
    picture: Image.Image


class Box(NamedTuple):
    """A rectangle on the frame, in pixels."""

    left: float
    top: float
    right: float
    bottom: float


def automatic_font_size(width: int, height: int) -> float:
    """Pixels: a twentieth of the height, less where the picture is narrow."""
    return max(12.0, min(height / 20, width / 16))


class OverlayPainter:
    """Draws for frames of width x height square pixels; font_size in pixels, None: automatic."""

    def __init__(self, width: int, height: int, font: Path, font_size: float | None = None):
        self.width, self.height = width, height
        self.size = font_size or automatic_font_size(width, height)
        self.font, self.bubble_font = open_font(font, self.size), open_font(font, self.size * BUBBLE_FONT)

    @property
    def text_area(self) -> TextArea:
        """Text that fits on the frame."""
        is_portrait = self.height > self.width
        padding, line = self.size * BUBBLE_FONT * 1.2, self.size * BUBBLE_FONT * LINE_HEIGHT
        free = self._caption_bottom() - (MOST_LINES * LINE_HEIGHT + 1) * self.size - self.height * TOP_MARGIN
        n_lines = max(2, int((free - 2.5 * padding) / line))
        question_lines = max(1, min(5, n_lines // 2))
        return TextArea(
            caption_width=min(self.width * (1 - 2 * SIDE_MARGIN) - self.size, LINE_COLUMNS * 0.6 * self.size),
            measure_caption=partial(_length, self.font),
            bubble_width=self.width * (0.7 if is_portrait else 0.42) - padding,
            measure_bubble=partial(_length, self.bubble_font),
            question_lines=question_lines,
            answer_lines=max(1, min(10, n_lines - question_lines)),
        )

    def words(self, words: Words) -> Patch:
        """The spoken part of a page of captions, each line behind its own dark box, in the middle below."""
        rtl = is_right_to_left("".join(words.lines))
        step, height = LINE_HEIGHT * self.size, len(words.lines)
        boxes, drawn, n_before = [], [], 0
        for i, line in enumerate(words.lines):
            full, shown = _length(self.font, line), _beginning(line, words.n_shown - n_before)
            old = _beginning(line, words.n_old - n_before)
            n_before += len("".join(line.split()))
            if not shown:
                continue
            width = _length(self.font, shown)
            left = (self.width + full) / 2 - width if rtl else (self.width - full) / 2
            top = self._caption_bottom() - step * (height - i)
            pad_x, pad_y = 0.42 * self.size, 0.1 * self.size
            boxes.append(Box(left - pad_x, top - pad_y, left + width + pad_x, top + step + pad_y))
            drawn.append((left, top + step / 2, shown, old))
        patch = _boxed(boxes, 0.22 * self.size, BLACK, CAPTION_BOX_ALPHA)
        for left, middle, shown, old in drawn:
            self._caption_line(patch, left, middle, shown, old)
        return patch

    def exchange(self, exchange: Exchange) -> list[Patch]:
        """A question's bubble at the right, above, and its answer's below it."""
        right = self.width * (1 - SIDE_MARGIN)
        column = self.text_area.bubble_width + self._bubble_padding() * 2
        top = self.height * TOP_MARGIN
        patches = []
        if exchange.question:
            patches.append(self._bubble(exchange.question, top, QUESTION_BOX, WHITE, right=right))
            top += self._bubble_height(exchange.question) + 0.4 * self.bubble_font.size
        if exchange.answer:
            patches.append(self._bubble(exchange.answer, top, ANSWER_BOX, NEAR_BLACK, left=right - column))
        return patches

    def _caption_bottom(self) -> float:
        share = PORTRAIT_BOTTOM_MARGIN if self.height > self.width else BOTTOM_MARGIN
        return self.height * (1 - share)

    def _caption_line(self, patch: Patch, left: float, middle: float, shown: str, old: str) -> None:
        if not old or any(is_right_to_left(c) for c in shown):  # a line of both directions has no simple places
            _write(patch, left, middle, shown, self.font, WHITE)
            return
        _write(patch, left, middle, old, self.font, SPOKEN_BEFORE)
        new = shown[len(old) :]
        if new.strip():
            space = new[: len(new) - len(new.lstrip())]
            _write(patch, left + _length(self.font, old + space), middle, new.lstrip(), self.font, WHITE)

    def _bubble_padding(self) -> float:
        return 0.6 * self.bubble_font.size

    def _bubble_height(self, lines: tuple[str, ...]) -> float:
        return len(lines) * LINE_HEIGHT * self.bubble_font.size + 1.4 * self._bubble_padding()

    def _bubble(
        self, lines: tuple[str, ...], top: float, fill: Rgb, ink: Rgb, left: float | None = None, right: float = 0
    ) -> Patch:
        pad, step = self._bubble_padding(), LINE_HEIGHT * self.bubble_font.size
        widest = max(_length(self.bubble_font, line) for line in lines)
        left = right - widest - 2 * pad if left is None else left
        box = Box(left, top, left + widest + 2 * pad, top + self._bubble_height(lines))
        patch = _boxed([box], 0.7 * self.bubble_font.size, fill, BUBBLE_ALPHA)
        rtl = is_right_to_left("".join(lines))
        for i, line in enumerate(lines):
            x = box.right - pad - _length(self.bubble_font, line) if rtl else box.left + pad
            _write(patch, x, top + 0.7 * pad + step * (i + 0.5), line, self.bubble_font, ink)
        return patch


def is_right_to_left(text: str) -> bool:
    """Whether the first letter is of a script that is written from right to left."""
    kinds = (unicodedata.bidirectional(character) for character in text)
    return next((kind != "L" for kind in kinds if kind in ("L", "R", "AL")), False)


def _beginning(line: str, n_characters: int) -> str:
    """As much of the line as holds n_characters that are no spaces."""
    for place, character in enumerate(line):
        if n_characters <= 0:
            return line[:place].rstrip()
        n_characters -= not character.isspace()
    return line


def _length(font: ImageFont.FreeTypeFont, text: str) -> float:
    return font.getlength(text) if text else 0.0


def _boxed(boxes: list[Box], radius: float, fill: Rgb, alpha: float) -> Patch:
    """Rounded boxes as one shape: where they overlap it is no darker."""
    x, y = int(min(box.left for box in boxes)) - 1, int(min(box.top for box in boxes)) - 1
    width, height = (int(max(box[i] for box in boxes)) + 2 - start for i, start in ((2, x), (3, y)))
    mask = Image.new("L", (width * SMOOTH, height * SMOOTH))
    draw = ImageDraw.Draw(mask)
    for box in boxes:
        corners = [(box.left - x) * SMOOTH, (box.top - y) * SMOOTH, (box.right - x) * SMOOTH, (box.bottom - y) * SMOOTH]
        draw.rounded_rectangle(corners, radius * SMOOTH, fill=round(255 * alpha))
    picture = Image.new("RGBA", (width, height), (*fill, 0))
    picture.putalpha(mask.reduce(SMOOTH))
    return Patch(x, y, picture)


def _write(patch: Patch, left: float, middle: float, text: str, font: ImageFont.FreeTypeFont, ink: Rgb) -> None:
    """Write a line into a patch, opaque; middle: the height of the middle between ascender and descender."""
    layer = Image.new("RGBA", patch.picture.size, (*ink, 0))
    direction = ("rtl" if is_right_to_left(text) else "ltr") if features.check("raqm") else None
    ImageDraw.Draw(layer).text(
        (left - patch.x, middle - patch.y), text, fill=(*ink, 255), font=font, anchor="lm", direction=direction
    )
    patch.picture.alpha_composite(layer)
