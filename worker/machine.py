"""The machine below agent and child: the memory that processes here can have."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def host_memory_bytes(limit: Path = CGROUP_LIMIT) -> int:
    """Memory that jobs here can have: the machine's, or what the control group allows if that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        text = limit.read_text().strip()
    except OSError:
        return total
    return min(total, int(text)) if text.isdecimal() else total
