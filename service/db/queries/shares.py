"""What projects wait for, hold and may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.queries.jobs import QUEUED
from service.db.tables import attempts, jobs, leases, projects, usage, usage_entries

DEVICE_SECONDS, STORED_BYTES = "device_seconds", "stored_bytes"
PREFIX = {"day": 10, "month": 7, "total": 0}
"""How much of today's date the days of a period have in common."""


@dataclass(frozen=True)
class Load:
    """What a project's attempts hold just now. `device_seconds`: what they have spent so far."""

    jobs: int = 0
    devices: int = 0
    device_seconds: float = 0.0


def queued_projects(connection: Connection, worker: Row[Any]) -> list[str]:
    """Projects with queued jobs that the worker serves. Leaps from one to the next in the index, however many jobs each has."""
    if not worker.all_projects:
        return [worker.project]
    found = select(func.min(jobs.c.project).label("project")).where(jobs.c.status == QUEUED).cte("found", recursive=True)
    following = select(func.min(jobs.c.project)).where(jobs.c.status == QUEUED, jobs.c.project > found.c.project)
    found = found.union_all(select(following.scalar_subquery()).where(found.c.project.is_not(None)))
    return list(connection.execute(select(found.c.project).where(found.c.project.is_not(None))).scalars())


def loads(connection: Connection) -> dict[str, Load]:
    """What each project holds."""
    spent = func.sum(leases.c.devices * (now_us() - attempts.c.started_at)) / 1_000_000.0
    query = select(leases.c.project, func.count(), func.sum(leases.c.devices), spent)
    query = query.join(attempts, attempts.c.id == leases.c.attempt_id).group_by(leases.c.project)
    return {project: Load(count, int(devices), float(seconds)) for project, count, devices, seconds in connection.execute(query)}


def of(connection: Connection, names: Sequence[str]) -> dict[str, Row[Any]]:
    """Rows of projects: their weights and quotas."""
    return {row.id: row for row in connection.execute(select(projects).where(projects.c.id.in_(names)))}


def lock(connection: Connection, project: str) -> None:
    """Let nobody else claim for this project until the transaction ends: its quotas are a budget that is spent once."""
    connection.execute(select(projects.c.id).where(projects.c.id == project).with_for_update(key_share=True))


def note_served(connection: Connection, project: str) -> None:
    """A job of the project has been claimed."""
    connection.execute(update(projects).where(projects.c.id == project).values(served_at=now_us()))


def spent(connection: Connection, project: str, what: str, today: str, period: str) -> float:
    """How much a project has used of something in the current day or month, or ever.

    Args:
        connection: a transaction.
        project: whose.
        what: `DEVICE_SECONDS`, …
        today: the date, as `2026-11-23`.
        period: `day`, `month` or `total`.
    """
    start = today[: PREFIX[period]]
    total = 0.0
    for table in (usage, usage_entries):
        within = (table.c.project == project, table.c.what == what, table.c.day.startswith(start, autoescape=True))
        total += connection.execute(select(func.coalesce(func.sum(table.c.amount), 0)).where(*within)).scalar_one()
    return total


def stored(connection: Connection, project: str) -> float:
    """The bytes that a project stores, as last counted."""
    query = select(usage.c.amount).where(usage.c.project == project, usage.c.what == STORED_BYTES)
    return connection.execute(query.order_by(usage.c.day.desc()).limit(1)).scalar_one_or_none() or 0.0


def queued(connection: Connection, project: str, limit: int) -> int:
    """How many jobs of a project are queued, counted up to `limit`."""
    some = select(jobs.c.id).where(jobs.c.project == project, jobs.c.status == QUEUED).limit(limit).subquery()
    return connection.execute(select(func.count()).select_from(some)).scalar_one()
