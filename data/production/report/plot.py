"""Histograms and bars as drawings inside a page (SVG), in the page's own colours."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, BELOW = 360, 110, 18
N_BINS = 36


def histogram(kept: Sequence[float], dropped: Sequence[float], unit: str) -> str:
    """How often values occur: of what was kept, and on top of it what was rejected there."""
    values = [value for value in (*kept, *dropped) if math.isfinite(value)]
    if not values:
        return ""
    low, high = _range(values)
    counts = [_count(part, low, high) for part in (kept, dropped)]
    most = max(a + b for a, b in zip(*counts, strict=True)) or 1
    step = WIDTH / N_BINS
    bars = []
    for i, (a, b) in enumerate(zip(*counts, strict=True)):
        tall, more = HEIGHT * a / most, HEIGHT * b / most
        first = low + (high - low) * i / N_BINS
        said = f"{number(first)}\u2013{number(first + (high - low) / N_BINS)} {unit}: {a:,} kept, {b:,} rejected"
        bars.append(
            f'<g><title>{escape(said)}</title><rect class="hit" x="{i * step:.1f}" y="0" width="{step:.1f}" '
            f'height="{HEIGHT}"/>{_rect("kept", i * step, HEIGHT - tall, step, tall)}'
            f"{_rect('dropped', i * step, HEIGHT - tall - more, step, more)}</g>"
        )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT + BELOW}" role="img" aria-label="histogram">{"".join(bars)}'
        f'<line x1="0" y1="{HEIGHT}" x2="{WIDTH}" y2="{HEIGHT}"/>{_axis(low, high, unit)}</svg>'
    )


def number(value: float) -> str:
    """A number for people."""
    if value and abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the most, without the outermost half per cent of either side."""
    ordered = sorted(values)
    cut = len(ordered) // 200
    low, high = ordered[cut], ordered[-1 - cut]
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _count(values: Sequence[float], low: float, high: float) -> list[int]:
    counts = [0] * N_BINS
    for value in values:
        if math.isfinite(value):
            place = int((value - low) / (high - low) * N_BINS)
            counts[min(max(place, 0), N_BINS - 1)] += 1
    return counts


def _rect(name: str, x: float, y: float, width: float, height: float) -> str:
    if height <= 0:
        return ""
    return f'<rect class="{name}" x="{x + 0.5:.1f}" y="{y:.1f}" width="{width - 1:.1f}" height="{height:.1f}"/>'


def _axis(low: float, high: float, unit: str) -> str:
    places = [(0, low, "start"), (WIDTH / 2, (low + high) / 2, "middle"), (WIDTH, high, "end")]
    return "".join(
        f'<text x="{x:.0f}" y="{HEIGHT + BELOW - 4}" text-anchor="{anchor}">'
        f"{number(value)}{f' {escape(unit)}' if anchor == 'end' else ''}</text>"
        for x, value, anchor in places
    )
