"""Identifiers: a prefix that names the kind and a UUIDv7, so that ids sort by the time they were made."""

from __future__ import annotations

import re
import secrets
import time
from datetime import UTC, datetime

KINDS: tuple[str, ...] = ("job", "att", "ds", "code", "evt", "wrk", "req", "grp", "key", "prj", "pre", "whk", "whd", "aud")


def new_id(kind: str) -> str:
    """Make an id such as `job_0192…` (32 hexadecimal digits after the prefix).

    Args:
        kind: one of `KINDS`.

    Source: RFC 9562, section 5.7 (UUID version 7). Python has it from 3.14 on.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of id: {kind}")
    millis = time.time_ns() // 1_000_000
    value = (millis << 80) | (0x7 << 76) | (secrets.randbits(12) << 64) | (0b10 << 62) | secrets.randbits(62)
    return f"{kind}_{value:032x}"


def made_at(identifier: str) -> str | None:
    """When an id was made, as RFC 3339 in UTC with milliseconds; None if it is not one of ours."""
    match = re.fullmatch(r"[a-z]+_([0-9a-f]{12})7[0-9a-f]{19}", identifier)
    if match is None:
        return None
    seconds, millis = divmod(int(match[1], 16), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"
