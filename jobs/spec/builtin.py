"""Small data sets that come with the project, the same numbers on every machine: for first steps, tests and demonstrations."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from jobs.spec.columns import facts_of_columns
from jobs.spec.dataset import DatasetFacts

Columns = dict[str, list[float] | list[int]]
SPIRAL_ROWS = 600
SPIRAL_CLASSES = 3
LINE_ROWS = 100


@dataclass(frozen=True)
class Builtin:
    """A built-in data set.

    Attributes:
        doc: a line about it.
        args: how its columns bind to arguments where a job does not say.
        facts: what is known of it, as of an uploaded one.
    """

    doc: str
    args: dict[str, str | list[str]]
    facts: DatasetFacts


def describe(name: str) -> Builtin:
    """What is known of a built-in data set. Raises KeyError for a name that is not in `NAMES`."""
    doc, args, _ = _BUILTIN[name]
    return Builtin(doc, dict(args), facts_of_columns(name, columns(name)))


def columns(name: str) -> Columns:
    """The columns of a built-in data set. Raises KeyError for a name that is not in `NAMES`."""
    return _BUILTIN[name][2]()


def _eight_schools() -> Columns:
    return {"y": [28, 8, -3, 7, -1, 1, 18, 12], "sigma": [15, 10, 16, 11, 9, 11, 10, 18]}


def _line() -> Columns:
    """Y = 1 + 2 x + noise with a standard deviation of 0.3, at 100 points of [-1, 1] in mixed order."""
    noise = random.Random(1)  # noqa: S311  (numbers to learn from, not secrets)
    x = [round(-1 + 2 * (row * 37 % LINE_ROWS) / (LINE_ROWS - 1), 6) for row in range(LINE_ROWS)]
    # A sum of twelve uniform numbers is nearly normal, and `random()` alone is promised to stay the same in every Python.
    y = [round(1 + 2 * value + 0.3 * (sum(noise.random() for _ in range(12)) - 6), 6) for value in x]
    return {"x": x, "y": y}


def _spirals() -> Columns:
    """Three arms of a spiral, one class each, taken in turn so that every part of the rows holds all of them."""
    noise = random.Random(2)  # noqa: S311  (as above)
    x1: list[float] = []
    x2: list[float] = []
    label = [row % SPIRAL_CLASSES for row in range(SPIRAL_ROWS)]
    places = SPIRAL_ROWS // SPIRAL_CLASSES
    for row, arm in enumerate(label):
        part = (row // SPIRAL_CLASSES * 73 % places) / places
        radius = 0.1 + 0.9 * part
        angle = 2 * math.pi * arm / SPIRAL_CLASSES + 4 * part + 0.2 * (noise.random() - 0.5)
        x1.append(round(radius * math.cos(angle), 6))
        x2.append(round(radius * math.sin(angle), 6))
    return {"x1": x1, "x2": x2, "label": label}


_Recipe = tuple[str, Mapping[str, str | list[str]], Callable[[], Columns]]
_BUILTIN: dict[str, _Recipe] = {
    "eight_schools": (
        "Effects of coaching in eight schools with their standard errors (Rubin 1981).",
        {"y": "y", "sigma": "sigma"},
        _eight_schools,
    ),
    "line": ("A hundred points about the line y = 1 + 2 x.", {"x": "x", "y": "y"}, _line),
    "spirals": ("Six hundred points on three arms of a spiral, to tell apart.", {"x": ["x1", "x2"], "y": "label"}, _spirals),
}
NAMES: tuple[str, ...] = tuple(_BUILTIN)
