"""What is known of a value without computing it: its shape, its kind, and of integers between which bounds they lie."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

Shape = tuple[int | None, ...]
LARGEST_ARRAY = 2**28
"""Elements of one array: a gibibyte in float32."""
MOST_AXES = 16


@dataclass(frozen=True)
class Value:
    """What is known of a value.

    Attributes:
        shape: its axes, those of unknown size None; None where not even their number is known.
        kind: whether its elements are integers, truth values, or real numbers; None where that is not known.
        const: of a static integer, which.
        low, high: bounds of integers, where they are known.
    """

    shape: Shape | None = None
    kind: str | None = None
    const: int | None = None
    low: float = -math.inf
    high: float = math.inf


UNKNOWN = Value()
REAL = Value((), "real")


def integer(value: int) -> Value:
    """A static integer."""
    return Value((), "int", value, value, value)


def told(shape: Shape | None) -> str:
    """A shape in words: `(8, ?)`."""
    axes = [] if shape is None else ["?" if size is None else str(size) for size in shape]
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"


def broadcast(first: Shape | None, second: Shape | None) -> Shape | None:
    """The shape of two arrays combined element by element.

    Raises:
        ValueError: they do not go together.
    """
    if first is None or second is None:
        return None
    axes: list[int | None] = []
    for a, b in itertools.zip_longest(reversed(first), reversed(second), fillvalue=1):
        if a is not None and b is not None and a != b and 1 not in (a, b):
            raise ValueError(f"shapes {told(first)} and {told(second)} do not go together: {a} and {b} differ")
        axes.append(b if a == 1 else a if b == 1 else a if a is not None else b)
    return tuple(reversed(axes))
