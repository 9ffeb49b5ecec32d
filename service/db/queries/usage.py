"""What projects have used: entries as they come, folded into a row a day, and what they hold just now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, case, delete, func, insert, literal, select, union_all, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import insert_once, now_us
from service.db.tables import artifacts, attempts, checkpoints, code_bundles, datasets, jobs, leases, usage, usage_entries

STORED_BYTES = "stored_bytes"


def add(connection: Connection, project: str, day: str, amounts: Mapping[str, float]) -> None:
    """Add to what a project has used on a day."""
    rows = [{"project": project, "day": day, "what": what, "amount": amount} for what, amount in sorted(amounts.items())]
    connection.execute(insert(usage_entries), rows)


def fold(connection: Connection, limit: int) -> int:
    """Move entries into the rows of their days; gives how many."""
    first = select(usage_entries.c.id).order_by(usage_entries.c.id).limit(limit)
    statement = delete(usage_entries).where(usage_entries.c.id.in_(first)).returning(*usage_entries.c)
    sums: dict[tuple[str, str, str], float] = {}
    count = 0
    for row in connection.execute(statement):
        place = (row.project, row.day, row.what)
        sums[place] = sums.get(place, 0.0) + row.amount
        count += 1
    for place in sorted(sums):
        _put(connection, place, usage.c.amount + sums[place], sums[place])
    return count


def put_stored_bytes(connection: Connection, day: str, stored: Mapping[str, int]) -> None:
    """Note what projects store: the last word of a day counts."""
    for project in sorted(stored):
        _put(connection, (project, day, STORED_BYTES), literal(float(stored[project])), stored[project])


def _put(connection: Connection, place: tuple[str, str, str], value: ColumnElement[float], first: float) -> None:
    project, day, what = place
    statement = insert_once(connection, usage).values(project=project, day=day, what=what, amount=first)
    if connection.execute(statement.returning(usage.c.day)).one_or_none() is None:
        same = (usage.c.project == project, usage.c.day == day, usage.c.what == what)
        connection.execute(update(usage).where(*same).values(amount=value))


def _all_of(project: str) -> Any:
    """Folded and unfolded together."""
    both = [select(table.c.day, table.c.what, table.c.amount).where(table.c.project == project) for table in (usage, usage_entries)]
    return union_all(*both).subquery("used")


def days(connection: Connection, project: str, since: str, before: str | None, limit: int) -> dict[str, dict[str, float]]:
    """What a project used, by day, newest first: days from `since` on and before `before`."""
    used = _all_of(project)
    wanted = [used.c.day >= since] if before is None else [used.c.day >= since, used.c.day < before]
    listed = select(used.c.day).where(*wanted).distinct().order_by(used.c.day.desc()).limit(limit)
    found: dict[str, dict[str, float]] = {day: {} for day in connection.execute(listed).scalars()}
    if not found:
        return found
    query = select(used.c.day, used.c.what, func.sum(used.c.amount)).where(used.c.day.in_(found)).group_by(used.c.day, used.c.what)
    for day, what, amount in connection.execute(query):
        found[day][what] = amount
    return found


def total(connection: Connection, project: str, what: str, since: str) -> float:
    """How much of something a project has used since a day."""
    used = _all_of(project)
    query = select(func.coalesce(func.sum(used.c.amount), 0.0)).where(used.c.what == what, used.c.day >= since)
    return connection.execute(query).scalar_one()


def stored_bytes(connection: Connection, project: str) -> int:
    """Bytes of a project's datasets, bundles, checkpoints and artifacts."""
    parts: list[Select[Any]] = [
        select(func.coalesce(func.sum(table.c.bytes), 0)).where(table.c.project == project) for table in (datasets, code_bundles)
    ]
    parts += [
        select(func.coalesce(func.sum(table.c.bytes), 0))
        .join_from(jobs, table, table.c.job_id == jobs.c.id)
        .where(jobs.c.project == project)
        for table in (checkpoints, artifacts)
    ]
    return int(sum(connection.execute(part).scalar_one() for part in parts))


def holding(connection: Connection, project: str) -> Row[*tuple[Any, ...]]:
    """What a project holds just now: `queued_jobs`, `running_jobs`."""
    queued = func.sum(case((jobs.c.status == "queued", 1), else_=0)).label("queued_jobs")
    running = func.sum(case((jobs.c.attempt_id.is_not(None), 1), else_=0)).label("running_jobs")
    live = jobs.c.status.in_(("queued", "running", "pausing", "cancelling"))
    return connection.execute(select(queued, running).where(jobs.c.project == project, live)).one()


def devices_held(connection: Connection, project: str) -> Sequence[Row[*tuple[Any, ...]]]:
    """Attempts that run: how many `devices` each has and since when, `started_at`, with `now`."""
    columns = (leases.c.devices, attempts.c.started_at, now_us().label("now"))
    query = (
        select(*columns).join_from(leases, jobs, jobs.c.id == leases.c.job_id).join(attempts, attempts.c.id == leases.c.attempt_id)
    )
    return connection.execute(query.where(jobs.c.project == project)).all()


def devices_of(connection: Connection, attempt_id: str) -> int:
    """How many devices an attempt has, all its ranks together."""
    query = select(func.coalesce(func.sum(leases.c.devices), 0)).where(leases.c.attempt_id == attempt_id)
    return int(connection.execute(query).scalar_one())
