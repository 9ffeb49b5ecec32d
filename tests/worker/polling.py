"""Waiting for a condition. The bound is generous: it ends a test that hangs, and measures nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

BOUND_SECONDS = 90.0


def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + BOUND_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "what was waited for has not come about"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
