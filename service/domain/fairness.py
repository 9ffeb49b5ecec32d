"""Whose turn it is, and how much a project may have.

Within a project the job with the lowest turn is next: the instant at which it came, put back by its priority. All wait equally long
for the same gain, so the order of two jobs never changes while they wait, and an index gives it.

Between projects the one that holds the fewest devices for its weight is served next, and of those that hold equally many the one
that was served longest ago. Quotas bound what it may hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Connection, Row

from service.context import Context
from service.db.queries import shares
from service.db.queries.shares import Load
from service.domain.instants import MICROSECONDS, microseconds

QUOTAS = ("max_running_jobs", "max_devices", "max_device_seconds", "max_stored_bytes")
NOTHING = Load()


def turn(context: Context, came_at: int, priority: int) -> int:
    """A job's place in the order of claims: the lower, the sooner."""
    return came_at - priority * microseconds(context.settings.priority_age_seconds)


def turn_with(context: Context, old_turn: int, old_priority: int, priority: int) -> int:
    """A job's turn after its priority has been changed."""
    return old_turn + (old_priority - priority) * microseconds(context.settings.priority_age_seconds)


@dataclass(frozen=True)
class Share:
    """One project beside the others.

    Attributes:
        project: its id.
        load: what it holds.
        row: its weight and quotas; None for a project that has no row.
        contended: others have jobs in the queue too.
    """

    project: str
    load: Load
    row: Row[Any] | None
    contended: bool

    @property
    def is_limited(self) -> bool:
        """Whether anything bounds what it may hold."""
        return self.row is not None and any(getattr(self.row, name) is not None for name in QUOTAS)

    @property
    def rank(self) -> tuple[float, int, str]:
        """The lower, the sooner it is served."""
        weight, served_at = (self.row.weight, self.row.served_at) if self.row is not None else (1.0, None)
        return (self.load.devices / max(weight, 1e-9), served_at or 0, self.project)


def shares_for(connection: Connection, worker: Row[Any]) -> list[Share]:
    """Projects with queued jobs that a worker serves, in the order in which it should."""
    return sorted(shares_of(connection, shares.queued_projects(connection, worker)), key=lambda share: share.rank)


def shares_of(connection: Connection, projects: Sequence[str]) -> list[Share]:
    """These projects as they stand."""
    rows = shares.of(connection, projects)
    contended = len(projects) > 1
    found = [Share(name, NOTHING, rows.get(name), contended) for name in projects]
    if not contended and not any(share.is_limited for share in found):
        return found  # nothing to compare and nothing to bound: what it holds does not matter
    loads = shares.loads(connection)
    return [Share(share.project, loads.get(share.project, NOTHING), share.row, contended) for share in found]


@dataclass(frozen=True)
class Budget:
    """What a project may still take.

    Attributes:
        devices: so many; None for any number.
        spent: the quota that is used up, as a sentence; None if none is.
        hint: what to do about that.
    """

    devices: int | None = None
    spent: str | None = None
    hint: str | None = None

    def within(self, devices: int) -> int:
        """How many of these devices it may take."""
        if self.spent is not None:
            return 0
        return devices if self.devices is None else min(devices, self.devices)


ENDS = "It starts when another job of the project ends, or the quota is raised."


def budget(connection: Connection, share: Share, now: int) -> Budget:
    """What a project may still take, by its quotas."""
    row, load = share.row, share.load
    if row is None or not share.is_limited:
        return Budget()
    if row.max_running_jobs is not None and load.jobs >= row.max_running_jobs:
        return Budget(0, f"The project runs {load.jobs} job(s); its quota is {row.max_running_jobs}.", ENDS)
    if row.max_devices is not None and load.devices >= row.max_devices:
        return Budget(0, f"The project holds {load.devices} device(s); its quota is {row.max_devices}.", ENDS)
    seconds = _device_seconds(connection, share, now)
    if row.max_device_seconds is not None and seconds >= row.max_device_seconds:
        period = {"day": " of today", "month": " of this month"}.get(row.device_seconds_period, "")
        message = f"The project has used {seconds:.0f} device-seconds; its quota{period} is {row.max_device_seconds:.0f}."
        return Budget(0, message, "It starts when a new period begins, or the quota is raised.")
    stored = shares.stored(connection, share.project) if row.max_stored_bytes is not None else 0
    if row.max_stored_bytes is not None and stored >= row.max_stored_bytes:
        message = f"The project stores {stored:.0f} bytes; its quota is {row.max_stored_bytes}."
        return Budget(0, message, "Delete jobs, checkpoints or datasets that are needed no more, or have the quota raised.")
    return Budget(None if row.max_devices is None else row.max_devices - load.devices)


def _device_seconds(connection: Connection, share: Share, now: int) -> float:
    if share.row is None or share.row.max_device_seconds is None:
        return 0.0
    today = datetime.fromtimestamp(now / MICROSECONDS, UTC).date().isoformat()
    ended = shares.spent(connection, share.project, shares.DEVICE_SECONDS, today, share.row.device_seconds_period)
    return ended + share.load.device_seconds
