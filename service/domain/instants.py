"""Instants: microseconds since the epoch inside, RFC 3339 in UTC with six decimals outside."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, overload

from pydantic import BeforeValidator, WithJsonSchema

MICROSECONDS = 1_000_000


@overload
def wire(microseconds: int) -> str: ...
@overload
def wire(microseconds: None) -> None: ...
@overload
def wire(microseconds: int | None) -> str | None: ...
def wire(microseconds: int | None) -> str | None:
    """`1700000000123456` as `2023-11-14T22:13:20.123456Z`; None stays None."""
    if microseconds is None:
        return None
    seconds, rest = divmod(microseconds, MICROSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:06d}Z"


def day_of(instant: int) -> str:
    """The day of an instant, in UTC: `2026-11-23`."""
    return wire(instant)[:10]


def microseconds(seconds: float) -> int:
    """A duration in seconds as whole microseconds."""
    return round(seconds * MICROSECONDS)


def _as_text(value: Any) -> Any:
    return wire(value) if isinstance(value, int) else value


Instant = Annotated[str, BeforeValidator(_as_text), WithJsonSchema({"type": "string", "format": "date-time"})]
"""A field of a model that is given a column's microseconds and holds the text."""
