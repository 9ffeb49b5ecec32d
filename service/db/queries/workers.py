"""Workers: who is there, what each can run, and what each is running."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, true, update
from sqlalchemy.engine import Connection, Row

from service.db.engine import now_us
from service.db.queries import clock
from service.db.tables import attempts, jobs, leases, worker_offers, workers

held = (
    select(leases.c.worker_id, func.count().label("leases"), func.sum(leases.c.devices).label("leased_devices"))
    .group_by(leases.c.worker_id)
    .subquery("held")
)


def add(connection: Connection, row: Mapping[str, Any], offers: Iterable[str]) -> None:
    """Insert a worker with what it offers."""
    now = clock.now(connection)
    connection.execute(insert(workers).values(**row, registered_at=now, seen_at=now))
    lines = [{"worker_id": row["id"], "offer": offer} for offer in sorted(set(offers))]
    if lines:
        connection.execute(insert(worker_offers), lines)


def serves(worker: Row[Any], project: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a worker takes work of the project that a column names."""
    return true() if worker.all_projects else project == worker.project


def _of(project: str, worker_id: str, key_id: str | None) -> list[ColumnElement[bool]]:
    owned = [workers.c.id == worker_id, workers.c.project == project]
    return owned if key_id is None else [*owned, workers.c.key_id == key_id]


def get(connection: Connection, project: str, worker_id: str, key_id: str | None) -> Row[Any] | None:
    """A worker's row, if the project has such a worker, registered by this key; None asks for any."""
    return connection.execute(select(workers).where(*_of(project, worker_id, key_id))).one_or_none()


def visible(connection: Connection, project: str, worker_id: str) -> Row[Any] | None:
    """A worker's row, if it works for the project."""
    serving = or_(workers.c.all_projects, workers.c.project == project)
    return connection.execute(select(workers).where(workers.c.id == worker_id, serving)).one_or_none()


def touch(connection: Connection, project: str, worker_id: str, key_id: str | None) -> Row[Any] | None:
    """Note that a worker has been heard of just now; gives its row, None if there is no such worker, as with `get`."""
    statement = update(workers).where(*_of(project, worker_id, key_id)).values(seen_at=now_us())
    return connection.execute(statement.returning(*workers.c)).one_or_none()


def touch_holder(connection: Connection, attempt_id: str) -> None:
    """Note that the worker that runs an attempt has been heard of just now.

    Always before the job's row is locked: claims and drains take the two in that order.
    """
    holder = select(leases.c.worker_id).where(leases.c.attempt_id == attempt_id, leases.c.rank == 0).scalar_subquery()
    connection.execute(update(workers).where(workers.c.id == holder).values(seen_at=now_us()))


def drain(connection: Connection, worker_id: str) -> Row[Any]:
    """Mark a worker as one that takes no more work."""
    return connection.execute(
        update(workers).where(workers.c.id == worker_id).values(status="draining").returning(*workers.c)
    ).one()


def page(connection: Connection, project: str, after: str | None, limit: int) -> list[Row[Any]]:
    """Workers that work for the project, newest first, that come after the worker `after`."""
    query = (
        select(workers).where(or_(workers.c.all_projects, workers.c.project == project)).order_by(workers.c.id.desc()).limit(limit)
    )
    return list(connection.execute(query if after is None else query.where(workers.c.id < after)))


def running(connection: Connection, worker_ids: Sequence[str], project: str | None) -> Sequence[Row[*tuple[Any, ...]]]:
    """What workers are running for a project, or for any: a row for each lease, with its attempt's step and phase."""
    columns = (leases.c.worker_id, leases.c.job_id, leases.c.attempt_id, leases.c.devices, leases.c.beat_at)
    query = select(*columns, attempts.c.step, attempts.c.phase).join(attempts, attempts.c.id == leases.c.attempt_id)
    if project is not None:
        query = query.join(jobs, jobs.c.id == leases.c.job_id).where(jobs.c.project == project)
    return connection.execute(query.where(leases.c.worker_id.in_(worker_ids)).order_by(leases.c.attempt_id)).all()


def taking_work(connection: Connection, project: str, seen_since: int) -> list[Row[Any]]:
    """Workers that are there and not draining, with `leases` and `leased_devices` of each."""
    load = (func.coalesce(held.c.leases, 0).label("leases"), func.coalesce(held.c.leased_devices, 0).label("leased_devices"))
    query = select(workers, *load).outerjoin(held, held.c.worker_id == workers.c.id)
    serving = or_(workers.c.all_projects, workers.c.project == project)
    there = (serving, workers.c.status == "active", workers.c.seen_at >= seen_since)
    return list(connection.execute(query.where(*there)))


def free_devices(connection: Connection, worker: Row[Any]) -> int:
    """How many devices of a worker no lease holds; none when each of its slots has one.

    A worker with one slot is taken at its word: it asks when its slot is empty.
    """
    if worker.slots == 1:
        return worker.device_count
    count, devices = connection.execute(
        select(func.count(), func.coalesce(func.sum(leases.c.devices), 0)).where(leases.c.worker_id == worker.id)
    ).one()
    return worker.device_count - int(devices) if count < worker.slots else 0


def offers_among(connection: Connection, needs: Iterable[str]) -> dict[str, set[str]]:
    """Which of these needs each worker offers."""
    found: dict[str, set[str]] = {}
    query = select(worker_offers.c.worker_id, worker_offers.c.offer).where(worker_offers.c.offer.in_(sorted(needs)))
    for worker_id, offer in connection.execute(query):
        found.setdefault(worker_id, set()).add(offer)
    return found


def forget_before(connection: Connection, instant: int) -> int:
    """Delete workers not heard of since `instant` that hold no lease; gives how many."""
    holding = select(leases.c.worker_id)
    return connection.execute(delete(workers).where(workers.c.seen_at < instant, workers.c.id.not_in(holding))).rowcount
