"""What projects use: device-seconds of attempts, jobs by how they ended, bytes stored; by day in UTC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel
from sqlalchemy.engine import Connection, Row

from service.context import Context
from service.db.queries import clock, projects
from service.db.queries import usage as rows
from service.db.transaction import Read, Write
from service.domain.instants import MICROSECONDS, day_of
from service.domain.lifecycle import Change

FOLDED_AT_ONCE = 5000
DEVICE_SECONDS = "device_seconds"
FIRST_DAY = "0000-00-00"


class Used(BaseModel):
    """What a project used on a day. `stored_bytes`: what it held when that was last looked at, null where it was not."""

    object: Literal["usage"] = "usage"
    project: str
    day: str
    device_seconds: float
    attempts: int
    jobs_submitted: int
    jobs_succeeded: int
    jobs_failed: int
    jobs_cancelled: int
    stored_bytes: int | None


class Standing(BaseModel):
    """What a project holds just now, as its quotas count it: `device_seconds` are those of the quota's period."""

    queued_jobs: int
    running_jobs: int
    devices: int
    device_seconds: float
    stored_bytes: int


def days_between(began: int, ended: int) -> Iterator[tuple[str, float]]:
    """Each day that a span touches, with its seconds of it."""
    at = began
    while at < ended:
        midnight = (at // (86_400 * MICROSECONDS) + 1) * 86_400 * MICROSECONDS
        until = min(midnight, ended)
        yield day_of(at), (until - at) / MICROSECONDS
        at = until


def note_submitted(change: Change, project: str) -> None:
    """Count a job that has been queued."""
    rows.add(change.connection, project, day_of(change.now), {"jobs_submitted": 1})


def note_attempt(change: Change, project: str, attempt: Row[Any]) -> None:
    """Count an attempt that ends now, while it still has its lease: its devices were held whatever came of it."""
    devices = rows.devices_of(change.connection, attempt.id)
    for day, seconds in days_between(attempt.started_at, change.now):
        rows.add(change.connection, project, day, {DEVICE_SECONDS: seconds * devices})
    rows.add(change.connection, project, day_of(change.now), {"attempts": 1})


def device_seconds(connection: Connection, project: str, period: str) -> float:
    """Device-seconds of this day, this month or all time, those of attempts under way included."""
    now = clock.now(connection)
    today = day_of(now)
    since = {"day": today, "month": f"{today[:7]}-01"}.get(period, FIRST_DAY)
    spent = rows.total(connection, project, DEVICE_SECONDS, since)
    for lease in rows.devices_held(connection, project):
        spent += sum(seconds * lease.devices for day, seconds in days_between(lease.started_at, now) if day >= since)
    return spent


def standing(connection: Connection, project: str, period: str) -> Standing:
    """What a project holds just now."""
    held = rows.holding(connection, project)
    return Standing(
        queued_jobs=held.queued_jobs or 0,
        running_jobs=held.running_jobs or 0,
        devices=sum(lease.devices for lease in rows.devices_held(connection, project)),
        device_seconds=device_seconds(connection, project, period),
        stored_bytes=rows.stored_bytes(connection, project),
    )


def days(connection: Connection, project: str, since: str, before: str | None, limit: int) -> list[Used]:
    """What a project used, newest day first."""
    return [_used(project, day, amounts) for day, amounts in rows.days(connection, project, since, before, limit).items()]


def _used(project: str, day: str, amounts: dict[str, float]) -> Used:
    names = ("attempts", "jobs_submitted", "jobs_succeeded", "jobs_failed", "jobs_cancelled")
    counted = {name: int(amounts.get(name, 0)) for name in names}
    stored = amounts.get(rows.STORED_BYTES)
    seconds = amounts.get(DEVICE_SECONDS, 0.0)
    values = {"device_seconds": seconds, "stored_bytes": None if stored is None else int(stored)}
    return Used.model_validate({"project": project, "day": day, **values, **counted})


def settle(context: Context) -> None:
    """Fold what has been used into its days."""
    with Write(context.database) as write:
        rows.fold(write.connection, FOLDED_AT_ONCE)


def measure(context: Context) -> None:
    """Note what each project stores."""
    with Read(context.database) as read:
        today = day_of(clock.now(read.connection))
        stored = {project: rows.stored_bytes(read.connection, project) for project in projects.ids(read.connection)}
    with Write(context.database) as write:
        rows.put_stored_bytes(write.connection, today, stored)
