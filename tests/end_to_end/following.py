"""Wait for things to become true, and compare what jobs left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from meshyard import Client
from meshyard.local import Running

PATIENCE_SECONDS = 240
Found = TypeVar("Found")


def until(find: Callable[[], Found | None], what: str, pause: float = 0.04) -> Found:
    """Poll until something is there, every `pause` seconds: who asks the service more often slows what it waits for."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = find()
        if found:
            return found
        time.sleep(pause)
    raise AssertionError(f"never came true: {what}")


def until_step(client: Client, job_id: str, step: int) -> int:
    """Wait until a job has done a step."""

    def reached() -> int | None:
        job = client.jobs.get(job_id)
        assert job.status not in ("failed", "cancelled", "succeeded"), f"{job.status}: {job.error}"
        return job.progress.step if job.progress.step is not None and job.progress.step >= step else None

    return until(reached, f"{job_id} reaches step {step}")


def has_come_further(client: Client, job_id: str, number: int, steps: int) -> bool:
    """Whether the attempt of that number runs, has done so many steps, is beyond those before it, and would be resumed.

    A job's progress may still be that of the attempt before; and killed twice at one step a job is taken to be at fault.
    """
    attempts = client.jobs.attempts(job_id)
    if len(attempts) != number or not client.checkpoints.list(job_id):
        return False
    reached = max((attempt.step or 0 for attempt in attempts[:-1]), default=0)
    return (attempts[-1].step or 0) >= max((attempts[-1].resumed_from or 0) + steps, reached + 1)


def computing_child(worker: Running) -> int | None:
    """The process of a worker that has used the processors most; its spare children have used little."""
    spent: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == worker.process.pid and "worker.child_main" in (entry / "cmdline").read_text():
                spent[int(entry.name)] = int(fields[11]) + int(fields[12])
    return max(spent, key=lambda pid: spent[pid], default=None)


def kill_child(worker: Running) -> bool:
    """SIGKILL the computing child. Tells whether there was one."""
    pid = computing_child(worker)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def arrays(client: Client, job_id: str, step: int) -> dict[str, str]:
    """SHA-256 by path of the arrays of a checkpoint's state."""
    files = client.checkpoints.files(job_id, step)
    plain = ("_METADATA", "_sharding", "process_0")
    return {file.path: file.sha256 for file in files if file.path.startswith("state/") and not file.path.endswith(plain)}


def exact_metrics(client: Client, job_id: str) -> dict[str, list[float | None]]:
    """All series that do not depend on the clock."""
    clocked = ("step_seconds", "tokens_per_second", "samples_per_second", "data_wait_seconds")
    series = client.jobs.metrics(job_id).series
    return {f"{each.name} {each.labels} {each.steps}": each.values for each in series if each.name not in clocked}
