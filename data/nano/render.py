"""Renderer: moments of a match as RGB frames at any size, written as h264 (PyAV).

Everything that is spoken must be legible where the nano model looks: one visual token sees 28 x 28 of 140 x 84 units
in two frames. So the ball's holder is a large disc in the kit's colour, a pass leaves a trail that fades, each restart
marks its own spot, and the ground of each third and the boards along the lines look different: a transformer that has
only relative positions must be able to tell the place from the look of the place (dev/LOG.md, 2026-11-21).
"""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from data.nano.camera import BOARD_UNITS, UNITS_WH, Camera, Shot
from data.nano.palette import KITS, Look
from data.nano.world import GOAL_HALF_M, LENGTH_M, LINGER_S, WIDTH_M, MatchWindow, Moment
from utils.files import partial_file

SHIFT = 4  # fractional bits of cv2's sub-pixel coordinates
WHITE, DARK, VIOLET = (255, 255, 255), (20, 20, 20), (140, 60, 210)
ZONE_TINT = np.array([[26.0, 10.0, -22.0], [0.0, 0.0, 0.0], [-26.0, -10.0, 26.0]])  # RGB, added to left/middle/right
STRIPE_LEVELS = 13.0
SEGMENTS = {0: "abcdef", 1: "bc", 2: "abged", 3: "abgcd", 4: "fgbc", 5: "afgcd"}


DRAWN_HEIGHT = 168  # smaller frames are drawn at twice their size and averaged: cv2's thin shapes depend on the size


class MatchPainter:
    """Draws one match. size_hw in pixels; the picture's proportions should be near 5:3."""

    def __init__(self, look: Look, rng: np.random.Generator, size_hw: tuple[int, int]):
        self.look, self.size_hw = look, size_hw
        factor = 2 if size_hw[0] < DRAWN_HEIGHT else 1
        self.drawn_hw = (size_hw[0] * factor, size_hw[1] * factor)
        self.camera = Camera(rng, look.jitter, self.drawn_hw)
        self.kits = [KITS[name] for name in look.kits]
        self.noise = rng.normal(0, look.noise, size=(4, size_hw[0], size_hw[1], 1)).astype(np.float32)
        self.noise_rng = rng

    def frame(self, moment: Moment) -> np.ndarray:
        """uint8 [H, W, 3], RGB."""
        shot = self.camera.at(moment.time_s)
        canvas = _Canvas(self._ground(shot), shot)
        self._boards(canvas, moment)
        self._lines(canvas)
        self._spots(canvas, moment)
        self._trail(canvas, moment)
        self._players(canvas, moment)
        self._focus(canvas, moment)
        self._scoreboard(canvas, moment)
        pixels = canvas.pixels
        if self.drawn_hw != self.size_hw:
            pixels = cv2.resize(pixels, self.size_hw[::-1], interpolation=cv2.INTER_AREA)
        return self._add_noise(pixels)

    def _add_noise(self, pixels: np.ndarray) -> np.ndarray:
        noise = self.noise[self.noise_rng.integers(len(self.noise))]
        roll = int(self.noise_rng.integers(self.size_hw[1]))
        return np.clip(pixels + np.roll(noise, roll, axis=1), 0, 255).astype(np.uint8)

    def _ground(self, shot: Shot) -> np.ndarray:
        """Grass with each third's own tint and mowing: upright stripes, none, level stripes."""
        height, width = self.drawn_hw
        corners = shot.pixels([[0.0, 0.0], [LENGTH_M, WIDTH_M]])
        x_m = (np.arange(width) + 0.5 - corners[0, 0]) * LENGTH_M / (corners[1, 0] - corners[0, 0])
        y_m = (np.arange(height) + 0.5 - corners[0, 1]) * WIDTH_M / (corners[1, 1] - corners[0, 1])
        third = np.clip((x_m * 3 / LENGTH_M).astype(int), 0, 2)
        pixels = np.array(self.look.pitch_rgb) + ZONE_TINT[third]  # [W, 3]
        upright = np.where(third == 0, np.sign(np.sin(x_m * np.pi / 1.1)), 0.0)
        level = np.sign(np.sin(y_m * np.pi / 1.1))[:, None] * (third == 2)
        stripes = STRIPE_LEVELS * (upright[None] + level)  # [H, W]
        return np.ascontiguousarray(np.clip(pixels[None] + stripes[..., None], 0, 255).astype(np.uint8))

    def _boards(self, canvas: "_Canvas", moment: Moment) -> None:
        """Boards beside the pitch: light above, dark below. A goal lights the end where it fell."""
        canvas.box((-9, -9), (LENGTH_M + 9, -0.3), (200, 200, 200))
        canvas.box((-9, WIDTH_M + 0.3), (LENGTH_M + 9, WIDTH_M + 9), (60, 60, 60))
        for side, x in ((-1, -0.3), (1, LENGTH_M + 0.3)):
            canvas.box((x, -0.3), (x + side * 9, WIDTH_M + 0.3), (125, 120, 120))
            net = (x, WIDTH_M / 2 - GOAL_HALF_M), (x + side * 2.6, WIDTH_M / 2 + GOAL_HALF_M)
            canvas.box(*net, DARK)
            canvas.outline(*net, WHITE, 1.2)
        mark = moment.mark
        if mark is not None and mark.kind == "goal" and moment.phase == "celebration":
            x, side = (0, -1) if moment.ball[0] < LENGTH_M / 2 else (LENGTH_M, 1)
            kit = self.kits[mark.team]
            canvas.box((x, -9), (x + side * 9, WIDTH_M + 9), kit)
            for y in range(-2, 24, 4):  # flags waving
                dy = 1.0 if int(moment.time_s * 2) % 2 else -1.0
                canvas.box((x, y + dy), (x + side * 9, y + dy + 1.2), WHITE if kit != KITS["white"] else DARK)

    def _lines(self, canvas: "_Canvas") -> None:
        canvas.outline((0, 0), (LENGTH_M, WIDTH_M), WHITE, 1.0)
        canvas.line((LENGTH_M / 2, 0), (LENGTH_M / 2, WIDTH_M), WHITE, 1.0)
        canvas.ring((LENGTH_M / 2, WIDTH_M / 2), 10.0, WHITE, 1.0)
        for x, side in ((0, 1), (LENGTH_M, -1)):
            canvas.outline((x, WIDTH_M / 2 - 5), (x + side * 5, WIDTH_M / 2 + 5), WHITE, 1.0)

    def _spots(self, canvas: "_Canvas", moment: Moment) -> None:
        """The place of a restart lights up for as long as the ball lies there."""
        if moment.phase != "placed":
            return
        x, y = moment.ball
        left, top = x < LENGTH_M / 2, y < WIDTH_M / 2
        if moment.restart == "kick-off":
            canvas.disc((LENGTH_M / 2, WIDTH_M / 2), 21.0, (235, 235, 235))
        elif moment.restart == "goal kick":
            canvas.box((0 if left else LENGTH_M, 4), (6.5 if left else LENGTH_M - 6.5, WIDTH_M - 4), (235, 235, 235))
        elif moment.restart == "corner":
            canvas.disc((0 if left else LENGTH_M, 0 if top else WIDTH_M), 24.0, (235, 235, 235))
        else:
            edge = 0 if top else WIDTH_M
            canvas.box((x - 8, edge - 1.0), (x + 8, edge + 1.0), (250, 250, 250))
            canvas.box((x - 8, edge - 0.3), (x + 8, edge + 0.3), DARK)

    def _trail(self, canvas: "_Canvas", moment: Moment) -> None:
        trail = moment.trail
        if trail is None or moment.phase in ("placed", "celebration"):
            return
        age = max(moment.time_s - trail.end_s, 0.0) / LINGER_S
        end = moment.ball if moment.phase == "flight" else trail.end
        kit = self.kits[trail.team]
        if trail.shot:
            canvas.line(trail.start, end, WHITE if kit != KITS["white"] else DARK, 9.0)
            canvas.line(trail.start, end, kit, 5.0)
        else:
            canvas.line(trail.start, end, kit, 4.5 * (1 - 0.7 * age) + 0.6)

    def _players(self, canvas: "_Canvas", moment: Moment) -> None:
        for team in (0, 1):
            for player in range(5):
                spot = moment.players[team, player]
                if player == 0:
                    canvas.square(spot, 3.0, DARK)
                    canvas.square(spot, 2.2, self.kits[team])
                else:
                    canvas.disc(spot, 2.8, DARK)
                    canvas.disc(spot, 2.0, self.kits[team])

    def _focus(self, canvas: "_Canvas", moment: Moment) -> None:
        """Where the ball is, large: a disc with the holder, a ring for a dead ball, a ball in flight."""
        kit, ball = self.kits[moment.team], moment.ball
        contrast = DARK if sum(kit) > 380 else WHITE
        if moment.phase == "placed":
            canvas.disc(ball, 11.5, DARK)
            canvas.disc(ball, 10.5, kit)
            canvas.disc(ball, 3.5, contrast)
        elif moment.phase == "out":  # nobody's ball: the restart will be the other side's, or not
            canvas.disc(ball, 7.0, DARK)
            canvas.disc(ball, 5.6, WHITE)
        elif moment.phase in ("flight", "celebration"):
            hot = moment.trail is not None and moment.trail.shot
            canvas.disc(ball, 11.0 if hot else 7.0, contrast)
            canvas.disc(ball, 9.5 if hot else 5.6, kit)
        else:
            self._holder(canvas, moment, kit, contrast)

    def _holder(self, canvas: "_Canvas", moment: Moment, kit, contrast) -> None:
        mark, ball = moment.mark, moment.ball
        age = (moment.time_s - mark.time_s) / LINGER_S if mark is not None else 2.0
        if age < 1.0 and mark.kind == "tackle":
            canvas.burst(ball, 21.0 - 4.0 * age, WHITE, (255, 220, 0))
        elif age < 1.0 and mark.kind == "interception":
            canvas.diamond(ball, 20.0 - 4.0 * age, VIOLET, WHITE)
        if moment.carrier == 0:  # the keeper has it
            size = 14.0 - 2.5 * min(age, 1.0) if mark is not None and mark.kind == "save" else 9.0
            canvas.square(ball, size + 1.5, WHITE if size > 9 else DARK)
            canvas.square(ball, size - 1.0, kit)
        else:
            canvas.disc(ball, 11.0, DARK)
            canvas.disc(ball, 10.0, WHITE)
            canvas.disc(ball, 8.8, kit)
        canvas.disc(ball, 2.0, contrast)

    def _scoreboard(self, canvas: "_Canvas", moment: Moment) -> None:
        """A strip above the picture: home kit, home goals, away goals, away kit. It does not shake."""
        canvas.strip(0, UNITS_WH[0], (40, 40, 40))
        for team, x, digit_x in ((0, 28.0, 45.0), (1, 84.0, 87.0)):  # each digit inside one patch of 14
            kit = self.kits[team]
            canvas.strip(x, x + 28.0, kit)
            canvas.digit(moment.score[team], digit_x, DARK if sum(kit) > 380 else WHITE)


class _Canvas:
    """Shapes in metres (places) and units (sizes) on an RGB picture."""

    def __init__(self, pixels: np.ndarray, shot: Shot):
        self.pixels, self.shot = pixels, shot

    def _fixed(self, points) -> np.ndarray:
        return np.round((self.shot.pixels(points) - 0.5) * (1 << SHIFT)).astype(np.int32)

    def _thick(self, units: float) -> int:
        return max(round(self.shot.length(units)), 1)

    def disc(self, centre, radius: float, colour) -> None:
        x, y = self._fixed(centre)
        reach = round(self.shot.length(radius) * (1 << SHIFT))
        cv2.circle(self.pixels, (int(x), int(y)), reach, colour, -1, cv2.LINE_AA, SHIFT)

    def ring(self, centre, radius: float, colour, width: float) -> None:
        x, y = self._fixed(centre)
        reach = round(self.shot.length(radius) * (1 << SHIFT))
        cv2.circle(self.pixels, (int(x), int(y)), reach, colour, self._thick(width), cv2.LINE_AA, SHIFT)

    def square(self, centre, half: float, colour) -> None:
        middle = self.shot.pixels(centre)
        reach = self.shot.length(half)
        corners = [[-reach, -reach], [reach, -reach], [reach, reach], [-reach, reach]]
        self._polygon(middle + np.array(corners), colour)

    def box(self, first, second, colour) -> None:
        (x0, y0), (x1, y1) = first, second
        self._polygon(self.shot.pixels([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), colour)

    def outline(self, first, second, colour, width: float) -> None:
        (x0, y0), (x1, y1) = first, second
        points = self._fixed([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        cv2.polylines(self.pixels, [points], True, colour, self._thick(width), cv2.LINE_AA, SHIFT)

    def line(self, first, second, colour, width: float) -> None:
        a, b = self._fixed([first, second])
        cv2.line(self.pixels, a.tolist(), b.tolist(), colour, self._thick(width), cv2.LINE_AA, SHIFT)

    def burst(self, centre, radius: float, colour, inner) -> None:
        """A star with eight points."""
        angle = np.arange(16) * np.pi / 8
        middle = self.shot.pixels(centre)
        for share, paint in ((1.0, colour), (0.8, inner)):
            reach = self.shot.length(radius * share) * np.where(np.arange(16) % 2, 0.66, 1.0)
            self._polygon(middle + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1), paint)

    def diamond(self, centre, reach: float, colour, inner) -> None:
        """A square on its corner."""
        middle = self.shot.pixels(centre)
        for share, paint in ((1.0, colour), (0.75, inner)):
            corners = np.array([[0, -1], [1, 0], [0, 1], [-1, 0]]) * self.shot.length(reach * share)
            self._polygon(middle + corners, paint)

    def _polygon(self, points: np.ndarray, colour) -> None:
        fixed = np.round((points - 0.5) * (1 << SHIFT)).astype(np.int32)
        cv2.fillPoly(self.pixels, [fixed], colour, cv2.LINE_AA, SHIFT)

    def strip(self, x0: float, x1: float, colour) -> None:
        left, right, bottom = (round(self.shot.scale * v) for v in (x0, x1, BOARD_UNITS))
        self.pixels[:bottom, left:right] = colour

    def digit(self, number: int, x0: float, colour) -> None:
        """Seven segments, 8 x 12 units, 2.4 thick."""
        t, w, top, mid, low = 2.4, 8.0, 1.0, 7.0, 13.0
        bars = {
            "a": (0, top, w, top + t),
            "g": (0, mid - t / 2, w, mid + t / 2),
            "d": (0, low - t, w, low),
            "f": (0, top, t, mid),
            "b": (w - t, top, w, mid),
            "e": (0, mid, t, low),
            "c": (w - t, mid, w, low),
        }
        for name in SEGMENTS[number]:
            left, up, right, down = (v * self.shot.scale for v in bars[name])
            x = x0 * self.shot.scale
            corners = np.array([[x + left, up], [x + right, up], [x + right, down], [x + left, down]])
            self._polygon(corners, colour)


def write_video(path: Path, frames, fps: int, size_hw: tuple[int, int], crf: int = 20) -> None:
    """Encode RGB frames (uint8 [H, W, 3]) as h264; the file appears under its name only when it is whole."""
    path = Path(path).absolute()  # FFmpeg takes what stands before a colon for a protocol
    options = {"movflags": "+faststart"}
    with partial_file(path) as partial, av.open(str(partial), "w", format="mp4", options=options) as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width = size_hw
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, fps)
        stream.codec_context.thread_count = 1
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def render_window(window: MatchWindow, look: Look, rng: np.random.Generator, size_hw, fps: int):
    """Yield the frames of a window: frame n shows the time n / fps."""
    painter = MatchPainter(look, rng, size_hw)
    for n in range(round(window.duration_s * fps) + 1):
        yield painter.frame(window.at(n / fps))
