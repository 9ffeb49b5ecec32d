"""What a job may take of this machine's memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax

from jobs.programs.preflight.compiling import Limit
from worker.machine import host_memory_bytes

GIB = 2**30


def host_bytes(spec: dict[str, Any]) -> int:
    """Host memory of a job: what it asks for (`resources.memory_gib`), at most what there is."""
    asked = spec["resources"]["memory_gib"]
    there = host_memory_bytes()
    return there if asked is None else min(there, int(asked * GIB))


def disk_bytes(folder: Path) -> int | None:
    """What is free where a job writes; None where the folder is not there."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def limit_of(spec: dict[str, Any], count: int) -> Limit:
    """What one of `count` devices has. CPU devices share the host's memory. Starts the backend."""
    device = jax.devices()[0]
    limit = (device.memory_stats() or {}).get("bytes_limit")
    if limit:
        return Limit(int(limit), f"one {device.device_kind}")
    share = "this host's memory" if spec["resources"]["memory_gib"] is None else "resources.memory_gib"
    return Limit(host_bytes(spec) // count, f"{share}, shared by {count} CPU devices" if count > 1 else share)
