"""The charts of the page, as inline SVG: no script, no font, nothing fetched; colours come from the page's own classes. Pure.

Every text that enters is escaped by the caller's `escaped`, here for labels; numbers are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from dragon.constellation.figures import count, span
from dragon.text import clean

RADIUS, STROKE = 62.0, 22.0
"""Of the ring, in units of its view box of 160."""

WIDTH, HEIGHT = 720.0, 190.0
"""Of the timeline's view box."""

LEFT, RIGHT, TOP, BOTTOM = 8.0, 8.0, 14.0, 24.0
"""Margins of the timeline."""

LEAST_SHARE = 0.006
"""Of a ring that a part gets which has anything at all: two degrees, so that one bad event among 100,000 is seen."""

GAP_DEGREES = 1.6
"""Between two parts of a ring."""

Sample = Sequence[float]
Part = tuple[str, str, int]
"""`(css class, name, number)`"""


def escaped(text: object) -> str:
    """Return `text` fit for HTML and SVG, in attributes too; control and bidi characters are shown, not obeyed."""
    return escape(clean(text), quote=True)


def ring(parts: Sequence[Part], middle: str, below: str) -> str:
    """Return a ring of `parts` with `middle` written in it, and `below` under that."""
    total = sum(number for _, _, number in parts)
    circumference = 2 * math.pi * RADIUS
    arcs: list[str] = []
    turned = -90.0
    shown = [(name, label, number) for name, label, number in parts if number > 0]
    shares = [max(number / total, LEAST_SHARE) for _, _, number in shown]
    for (name, label, number), share in zip(shown, (each / sum(shares) for each in shares), strict=True):
        gap = GAP_DEGREES / 360 if len(shown) > 1 else 0.0
        length = max(share - gap, 0.002) * circumference
        arcs.append(
            f'<circle class="{name}" cx="80" cy="80" r="{RADIUS:g}" fill="none" stroke-width="{STROKE:g}" '
            f'stroke-dasharray="{length:.2f} {circumference - length:.2f}" transform="rotate({turned + gap * 180:.2f} 80 80)">'
            f"<title>{escaped(label)}: {count(number)}</title></circle>"
        )
        turned += share * 360
    if not arcs:
        arcs.append(f'<circle class="track" cx="80" cy="80" r="{RADIUS:g}" fill="none" stroke-width="{STROKE:g}"/>')
    return (
        f'<svg class="ring" viewBox="0 0 160 160" role="img" aria-label="{escaped(middle)} {escaped(below)}">{"".join(arcs)}'
        f'<text x="80" y="81" class="middle" font-size="{min(26.0, 140 / max(len(middle), 1)):.0f}">{escaped(middle)}</text>'
        f'<text x="80" y="99" class="below">{escaped(below)}</text></svg>'
    )


def bar(parts: Sequence[tuple[str, int]], whole: int) -> str:
    """Return a horizontal bar of `(css class, number)` pieces, as long as their share of `whole`."""
    pieces: list[str] = []
    at = 0.0
    for name, number in parts:
        width = 100 * number / whole if whole else 0.0
        if number > 0:
            width = max(width, 0.6)
            pieces.append(f'<rect class="{name}" x="{min(at, 99.4):.2f}%" width="{min(width, 100 - at):.2f}%" height="100%"/>')
        at = min(at + width, 100.0)
    return f'<svg class="bar" aria-hidden="true"><rect class="track" width="100%" height="100%"/>{"".join(pieces)}</svg>'


def timeline(samples: Sequence[Sample]) -> str:
    """Return how many events had come, and were stored, over the seconds of the run; "" for fewer than two moments."""
    if len(samples) < 2 or samples[-1][0] <= 0:
        return ""
    longest, most = samples[-1][0], max(max(sample[1] for sample in samples), max(sample[2] for sample in samples), 1)

    def place(seconds: float, number: float) -> tuple[float, float]:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * seconds / longest,
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * number / most,
        )

    def curve(column: int, name: str) -> str:
        points = [place(sample[0], sample[column]) for sample in samples]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        ground = HEIGHT - BOTTOM
        return (
            f'<polygon class="{name} area" points="{points[0][0]:.1f},{ground:.1f} {line} {points[-1][0]:.1f},{ground:.1f}"/>'
            f'<polyline class="{name} line" fill="none" points="{line}"/>'
        )

    lines = []
    for step in (0.0, 0.5, 1.0):
        _, y = place(0, most * step)
        label = f'<text class="tick" x="{LEFT:g}" y="{y - 4:.1f}">{count(round(most * step))}</text>' if step else ""
        lines.append(f'<line class="grid" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>{label}')
    ticks = "".join(
        f'<text class="tick" x="{place(longest * step, 0)[0]:.1f}" y="{HEIGHT - 6:g}" '
        f'text-anchor="{anchor}">{span(longest * step) if step else "0"}</text>'
        for step, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    )
    return (
        f'<svg class="timeline" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="Events over the time of the run">'
        f"{''.join(lines)}{curve(1, 'received')}{curve(2, 'new')}{ticks}</svg>"
    )
