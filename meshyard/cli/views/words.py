"""Numbers, times and sizes as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def duration(seconds: float) -> str:
    """Two units at most: `47m 10s`, `3h 5m`."""
    left, parts = max(0, round(seconds)), list[str]()
    for unit, size in UNITS:
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size}{unit}")
            left %= size
        elif parts:
            break
    return " ".join(parts) or "0s"


def age(instant: datetime | None, now: datetime | None = None) -> str:
    """How long ago, in one unit."""
    if instant is None:
        return ""
    return duration(((now or datetime.now(UTC)) - instant).total_seconds()).split(" ")[0]


def size(count: float | None) -> str:
    """Bytes with a binary unit."""
    if count is None:
        return ""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def number(value: float | None, digits: int = 4) -> str:
    """A value to so many significant digits; a dash for none."""
    if value is None:
        return "-"
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    return f"{value:.{digits}g}"


def count(value: int | None) -> str:
    """A whole number with its thousands apart."""
    return "-" if value is None else f"{value:,}"


def brief(value: object, room: int = 60) -> str:
    """Anything on one line, cut to `room` characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= room else text[: room - 1] + "…"
