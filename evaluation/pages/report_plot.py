"""Scores with error bars as a drawing that stands inside a page (SVG), in the page's own text colour."""

import io
import warnings
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from evaluation.scoring.stats import Score

COLOURS = ("#3b82c4", "#d9822b", "#3f9f6b", "#a763c9", "#cc5555", "#8a8f2f")
INK = "#010203"  # stands for the page's text colour
LABEL_LENGTH = 44
STYLE = {
    "svg.fonttype": "none",  # letters, not outlines: small, and in the page's font
    "svg.hashsalt": "livecc",  # equal scores, equal file
    "text.parse_math": False,  # names come with the data
    "font.family": "sans-serif",
    "font.size": 9,
    **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
}


def plot(names: Sequence[str], series: Sequence[Sequence[Score | None]]) -> str:
    """An SVG element: a row a name, a dot and its 95 % interval for each series, its highest floor as a thin mark.

    series: for each result its scores in the order of names, None where it has none. Series lie beside each other in a
    row, unless every row has but one score.
    """
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that matplotlib's own font lacks: the page's has them
        n_beside = max(sum(scores[row] is not None for scores in series) for row in range(len(names)))
        figure = Figure(figsize=(8, 0.55 + (0.12 + 0.13 * n_beside) * len(names)), layout="constrained")
        axes = figure.add_subplot()
        for i, scores in enumerate(series):
            shift = (i - (len(series) - 1) / 2) * 0.7 / len(series) if n_beside > 1 else 0.0
            _draw(axes, scores, shift, COLOURS[i % len(COLOURS)])
        _label(axes, names)
        text = io.StringIO()
        FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _draw(axes: Axes, scores: Sequence[Score | None], shift: float, colour: str) -> None:
    for row, found in enumerate(scores):
        if found is None:
            continue
        y = row + shift
        if found.interval:
            axes.plot([100 * end for end in found.interval], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([100 * found.value], [y], "o", color=colour, markersize=4.5, clip_on=False)
        if found.floor:
            axes.plot([100 * found.floor.value], [y], "|", color=INK, alpha=0.55, markersize=7, clip_on=False)


def _label(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [name[:LABEL_LENGTH] for name in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.patch.set_visible(False)
    axes.figure.patch.set_visible(False)
    axes.grid(axis="x", color=INK, alpha=0.15, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
