"""Instants in requests: RFC 3339, whatever the offset."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, Field

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST = datetime(9999, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def _checked_instant(text: str) -> str:
    microseconds_of(text)
    return text


def microseconds_of(text: str) -> int:
    """Microseconds since the epoch of an instant that a request names."""
    if not RFC_3339.fullmatch(text):
        raise ValueError("must be an RFC 3339 instant such as 2030-01-31T12:00:00Z")
    moment = datetime.fromisoformat(text.upper())
    if not EPOCH <= moment < LAST:
        raise ValueError("must lie between the years 1970 and 9999")
    return (moment - EPOCH) // MICROSECOND


Instant = Annotated[str, AfterValidator(_checked_instant), Field(json_schema_extra={"format": "date-time"})]
