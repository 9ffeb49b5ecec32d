"""Identifiers: a prefix that names the kind and a UUIDv7, so that ids sort by the time they were made."""

from __future__ import annotations

import secrets
import time

KINDS: tuple[str, ...] = ("job", "att", "ds", "code", "evt", "wrk", "req", "grp", "key", "prj")


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
