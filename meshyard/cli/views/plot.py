"""A small chart of a metric, drawn with braille dots: two by four in every character."""

from __future__ import annotations

import math

from meshyard.cli.views.words import count, number
from meshyard.models import Series

BRAILLE = 0x2800
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def plot(series: Series, width: int = 64, height: int = 10) -> str:
    """A chart of the finite points of a series, with its range beside it.

    Args:
        series: what to draw.
        width: of the drawing, in characters.
        height: likewise.
    """
    labels = " ".join(f"{key}={value}" for key, value in series.labels.items())
    title = f"{series.name} {labels}".rstrip()
    points = [(step, value) for step, value in series.points() if math.isfinite(value)]
    if not points:
        return f"{title}: no finite points"
    low, high = min(value for _, value in points), max(value for _, value in points)
    rows = _draw(points, low, high, width, height)
    sides = [number(high), *[""] * (height - 2), number(low)]
    margin = max(len(side) for side in sides)
    lines = [f"{side:>{margin}} ┤{row}" for side, row in zip(sides, rows, strict=True)]
    first, last = count(points[0][0]), count(points[-1][0])
    return "\n".join([title, *lines, " " * (margin + 2) + first + last.rjust(width - len(first))])


def _draw(points: list[tuple[int, float]], low: float, high: float, width: int, height: int) -> list[str]:
    cells = [[0] * width for _ in range(height)]
    first, last = points[0][0], points[-1][0]
    for step, value in points:
        x = round(_share(step, first, last) * (width * 2 - 1))
        y = round((1 - _share(value, low, high)) * (height * 4 - 1))
        cells[y // 4][x // 2] |= DOTS[y % 4][x % 2]
    return ["".join(chr(BRAILLE + cell) for cell in row) for row in cells]


def _share(value: float, low: float, high: float) -> float:
    return 0.5 if high == low else (value - low) / (high - low)
