"""Limits on contained code that only someone outside can keep: memory and number of all its processes together, and time."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import JobError, UserFault

LOOK_SECONDS = 0.5
MOST_THREADS = 20_000
GIB = 2**30


@dataclass(frozen=True)
class Bounds:
    """What one attempt may take: memory of all its processes, seconds up to its first step, seconds in all."""

    memory_bytes: int
    start_seconds: float
    wall_seconds: float


class Watch:
    """Looks after one child until it is cancelled.

    Args:
        pid: its first process.
        bounds: its limits.
        has_begun: whether it has done a step.
        condemn: called once with the reason to end it.
    """

    def __init__(self, pid: int, bounds: Bounds, has_begun: Callable[[], bool], condemn: Callable[[JobError], None]) -> None:
        self._pid, self._bounds, self._has_begun, self._condemn = pid, bounds, has_begun, condemn

    async def run(self) -> None:
        """Look twice a second."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while (fault := await asyncio.to_thread(self._fault, clock() - began)) is None:  # noqa: ASYNC110  the kernel tells nobody
            await asyncio.sleep(LOOK_SECONDS)
        self._condemn(fault)

    def _fault(self, seconds: float) -> JobError | None:
        bounds = self._bounds
        if seconds > bounds.start_seconds and not self._has_begun():
            message = (
                f"the code did not get to its first step in {bounds.start_seconds:g} seconds: it hangs at import, in __init__ or"
            )
            return UserFault(
                "user_code_error", f"{message} while it is traced, or it is too large to compile in that time", "/model"
            )
        if seconds > bounds.wall_seconds:
            return UserFault("deadline_exceeded", f"code of users may run {bounds.wall_seconds:g} seconds at a time on this worker")
        memory, threads = usage(self._pid)
        if memory > bounds.memory_bytes:
            used, most = memory / GIB, bounds.memory_bytes / GIB
            message = f"the job's processes used {used:.2f} GiB of memory, and code of users may use {most:.2f} GiB on this worker"
            return UserFault("oom", message, "/data/batch_size")
        if threads > MOST_THREADS:
            return UserFault("user_code_error", f"the job started {threads} threads and processes", "/model")
        return None


def usage(pid: int) -> tuple[int, int]:
    """Memory in bytes and number of threads of a process and all that descend from it."""
    children: dict[int, list[int]] = defaultdict(list)
    facts: dict[int, tuple[int, int]] = {}
    page = os.sysconf("SC_PAGE_SIZE")
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            found = _facts(entry)
            if found is not None:
                parent, threads, pages = found
                children[parent].append(int(entry.name))
                facts[int(entry.name)] = (pages * page, threads)
    family, pending = [pid], [pid]
    while pending:
        found_below = children[pending.pop()]
        family += found_below
        pending += found_below
    known = [facts[one] for one in family if one in facts]
    return sum(memory for memory, _ in known), sum(threads for _, threads in known)


def _facts(entry: Path) -> tuple[int, int, int] | None:
    """Parent, threads and resident pages of a process; None if it is gone."""
    try:
        stat = (entry / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return int(fields[1]), int(fields[17]), int(fields[21])
